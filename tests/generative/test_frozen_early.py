from dataclasses import replace

import numpy as np
import pytest
import torch

from plr_edge.bundle.reading import open_bundle
from plr_edge.classifiers.lda import StreamingLda
from plr_edge.errors import ConfigError
from plr_edge.generative.averaging import RunningAverage
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.frozen_early import FrozenEarlyLearner
from plr_edge.generative.level_statistics import LevelStatistics
from plr_edge.generative.losses import class_prior
from plr_edge.runtime.perception import Perception

SMALL = GenerativeConfig(
    hidden=(48, 24), batch=16, rehearsed=16, lr=3e-3, form="steps", generator="gaussian",
    recompute=True, targets="classes", truncate=True, frozen_after=1, decayed=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def features(bundle_path, demo_frames):
    """Deepest features of six real objects, and their indices in order of appearance."""
    perception = Perception(open_bundle(bundle_path))
    x = torch.from_numpy(perception.perceive(demo_frames).features)
    names = list(dict.fromkeys(frame.label for frame in demo_frames))
    y = torch.tensor([names.index(frame.label) for frame in demo_frames])
    return 4 * x / x.norm(dim=1, keepdim=True), y


def learn(config, x, y, steps=40):
    learner = FrozenEarlyLearner(x.shape[1], config)
    rng = np.random.default_rng(0)
    for n_classes in (2, 4, 6):
        learner.begin_experience(n_classes, 6, steps)
        own = torch.from_numpy(np.flatnonzero((y >= n_classes - 2) & (y < n_classes)))
        entering = learner.entering(x[own])
        for _ in range(steps):
            batch = torch.from_numpy(rng.integers(len(own), size=config.batch))
            learner.step(entering[batch], y[own][batch])
        learner.end_experience(entering, y[own])
    return learner


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": "closed form"},
        {"answer": "closed form", "entry_level": 3},
        {"answer": "closed form", "frozen_after": 2, "modes": 3, "with_latent": True},
        {"answer": "both", "modes": 2, "with_latent": True},
        {"answer": "both", "new_share": 0.5, "averaged_share": 0.5},
        {"entry_level": 1},
    ],
    ids=["closed form", "level 3", "mixture late", "both", "tuned", "level 1"],
)
def test_old_classes_are_kept_without_any_stored_sample(changes, features):
    x, y = features
    right = learn(replace(SMALL, **changes), x, y).predict_many(x) == y.numpy()
    assert right[(y < 2).numpy()].mean() > 0.5
    assert right[(y >= 4).numpy()].mean() > 0.5


def test_early_blocks_are_kept_still_and_deeper_ones_move(features):
    x, y = features
    learner = learn(SMALL, x, y, steps=5)
    first = [p.clone() for p in learner.whole.classifier.blocks[0].parameters()]
    upper = [p.clone() for p in learner.upper.classifier.parameters()]
    learner.begin_experience(6, 6, 5)
    learner.step(learner.entering(x[:16]), y[:16])
    now = list(learner.whole.classifier.blocks[0].parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, now, strict=True))
    assert not all(
        torch.equal(a, b) for a, b in zip(upper, learner.upper.classifier.parameters(), strict=True)
    )


def test_the_closed_form_is_streaming_lda_over_real_features_of_the_level(features):
    x, y = features
    learner = learn(replace(SMALL, answer="closed form"), x, y)
    with torch.no_grad():
        deeper = learner.whole.classifier.features(x)[1]
    lda = StreamingLda(48)
    lda.learn_many(deeper.numpy(), y.numpy())
    assert (lda.scores_many(deeper.numpy()).argmax(1) == learner.predict_many(x)).mean() > 0.97


def test_multiply_adds_of_the_closed_form_are_those_of_its_parts(features):
    x, y = features
    learner = learn(replace(SMALL, answer="closed form"), x, y, steps=2)
    before = dict(learner.costs.macs)
    learner.begin_experience(6, 6, 2)
    learner.end_experience(learner.entering(x[:10]), y[:10])
    spent = {name: learner.costs.macs[name] - n for name, n in before.items()}
    solve = 48**3 // 3 + 2 * 6 * 48**2
    assert spent == {"new data": 10 * x.shape[1] * 48, "generator": 10 * 48**2 + solve,
                     "decode": 0, "targets": 0, "rehearsal": 0, "update": 0}  # fmt: skip


def test_modes_of_a_class_are_sampled_in_their_shares():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(300, 4) + 9, torch.randn(100, 4) - 9, torch.randn(200, 4)])
    y = torch.cat([torch.zeros(400), torch.ones(200)]).long()
    made = LevelStatistics(4, 2, rectified=False)
    made.grow(2)
    made.learn_many(x, y)
    made.freeze()
    (drawn,) = made.sample_levels(torch.zeros(2000).long())
    share = float((drawn.mean(1) > 0).float().mean())
    # 0.75 expected; 6 sigma of a binomial(2000, 0.75) are 0.058
    assert abs(share - 0.75) < 0.06


def test_the_average_is_over_the_last_share_of_each_phase():
    weight, average = torch.zeros(1), RunningAverage(0.5)
    average.begin([4, 0, 2])
    for value in (1.0, 2.0, 3.0, 5.0):
        weight.fill_(value)
        average.step([weight])
    assert weight.item() == 4.0
    for value in (8.0, 6.0):
        weight.fill_(value)
        average.step([weight])
    assert weight.item() == 6.0
    assert average.macs == 3


def test_the_prior_is_the_frequency_of_each_class_in_a_step():
    assert class_prior(4, 2, 0.5).exp().tolist() == pytest.approx([0.125] * 4 + [0.25] * 2)
    assert class_prior(4, 2, 0.0).tolist() == [0.0] * 6
    assert class_prior(0, 2, 0.5).tolist() == [0.0] * 2


@pytest.mark.parametrize(
    "changes", [{"entry_level": 0}, {"entry_level": 4}, {"generator": "vae", "recompute": False}]
)
def test_what_cannot_be_kept_still_is_refused(changes):
    with pytest.raises(ConfigError):
        FrozenEarlyLearner(8, replace(SMALL, **changes))
