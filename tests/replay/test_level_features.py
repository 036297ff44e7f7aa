import numpy as np
import torch
from torch import nn
from torch.nn import functional

from plr_edge.config import LearningConfig
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.linear_codec import LinearCodec
from plr_edge.replay.schedule import Level, make_schedule

N_CLASSES = 20


def learner(n_latents, *, cache_bytes, schedule="0.05,0.05,0.9", max_age_steps=100):
    """Two linear blocks over latents of 8 values; a slot cached at all levels takes 80 bytes."""
    levels = (
        Level(name="a", shape=(8,), weights=1, macs=100),
        Level(name="b", shape=(24,), weights=1, macs=100),
        Level(name="classifier", shape=(16,), weights=1, macs=1),
    )
    torch.manual_seed(0)
    blocks = nn.Sequential(
        nn.Sequential(nn.Linear(8, 24), nn.ReLU()), nn.Sequential(nn.Linear(24, 16), nn.ReLU())
    )
    codec = LinearCodec(shape=(8,), bits=8)
    memory = LatentMemory(codec.record_bytes, max(n_latents, 99) * (codec.record_bytes + 4))
    config = LearningConfig(cache_bytes=cache_bytes, schedule=schedule, max_age_steps=max_age_steps)
    made = Learner(blocks, levels, memory, codec, make_schedule(schedule, levels), config)
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((n_latents, 8)).astype(np.float32)
    for start in range(0, n_latents, 500):
        part = codec.encode(latents[start : start + 500])
        made.learn_many(part, np.arange(start, start + len(part)) % N_CLASSES)
    return made


def refreshed_per_step(made):
    made.features.at(2, made.features.representative_slots())
    before = made.features.cost.refresh_macs
    for _ in range(150):
        made.step()
    return (made.features.cost.refresh_macs - before) / 150


def test_what_a_step_computes_anew_does_not_grow_with_the_memory():
    few, many = (refreshed_per_step(learner(n, cache_bytes=80 * 4200)) for n in (6000, 24_000))
    # 4,200 slots are renewed within 100 updates of the blocks, which a tenth of the steps makes:
    # 4.2 times 201 multiply-adds a step, less what steps at the first level bring with them
    assert many < 1.2 * few and max(few, many) < 4.5 * 201


def test_every_latent_of_a_large_memory_gets_its_turn_and_classes_are_balanced():
    made = learner(6000, cache_bytes=80 * 4200, max_age_steps=20)
    drawn = []
    draw = made.features.draw
    made.features.draw = lambda *a: drawn.append(draw(*a)) or drawn[-1]
    for _ in range(800):
        made.step()
    drawn = np.concatenate(drawn)
    counts = np.bincount(made.features.memory.labels[drawn], minlength=N_CLASSES)
    assert len(np.unique(drawn)) > 5500
    # members are drawn again and again, so the spread is wider than a binomial's
    assert counts.min() > 0.9 * counts.mean() and counts.max() < 1.1 * counts.mean()


def test_cached_features_of_a_working_set_are_those_of_the_blocks():
    made = learner(6000, cache_bytes=80 * 4200)
    for _ in range(50):
        made.step()
    members = made.features.representative_slots()
    assert len(members) == 4200
    fresh = made.features.at(2, members, max_age_steps=0)
    np.testing.assert_allclose(made.features.at(2, members), fresh, atol=1e-2)
    outside = np.setdiff1d(np.arange(6000), members)
    assert made.features.at(2, outside[:100]).shape == (100, 16)


def test_a_memory_that_fits_is_remembered_whole():
    made = learner(400, cache_bytes=80 * 400)
    assert made.features._cache.working_set is None
    np.testing.assert_array_equal(made.features.representative_slots(), np.arange(400))


def test_a_schedule_without_blocks_renews_its_working_set_too():
    made = learner(6000, cache_bytes=80 * 4200, schedule="0,0,1", max_age_steps=20)
    before = set(made.features.representative_slots().tolist())
    for _ in range(400):
        made.step()
    assert len(before - set(made.features.representative_slots().tolist())) > 500


def test_rows_are_means_of_the_first_samples_whatever_the_order_of_classes():
    made = learner(0, cache_bytes=0)
    codec = LinearCodec(shape=(8,), bits=8)
    latents = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    for label, first in ((3, 0), (1, 5), (3, 10), (1, 15)):
        made.learn_many(codec.encode(latents[first : first + 5]), np.full(5, label))
    for label, rows in ((3, [*range(5), *range(10, 15)]), (1, [*range(5, 10), *range(15, 20)])):
        with torch.no_grad():
            kept = codec.decode(codec.encode(latents[rows]))
            features = functional.normalize(made.blocks(torch.from_numpy(kept)))
        assert functional.cosine_similarity(made.cosine.weight[label], features.mean(0), 0) > 0.999


def test_the_newest_latents_stay_members_while_nothing_new_comes():
    made = learner(6000, cache_bytes=80 * 4200, max_age_steps=20)
    for _ in range(800):
        made.step()
    newest = made.features.newest
    assert len(newest) == made.config.new_per_step
    assert np.isin(newest, made.features.representative_slots()).all()
