from dataclasses import replace

import numpy as np
import pytest
import torch

from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import ConfigError
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.learner import GenerativeLearner
from plr_edge.runtime.perception import Perception

SMALL = GenerativeConfig(
    hidden=(32, 24), z_width=8, batch=16, rehearsed=20, lr=3e-3, fitted_modes=True
)
OURS = replace(SMALL, form="steps", truncate=True, same_level_targets=True, generator_every=4)
ASCENDING = replace(
    OURS, schedule="basic", recompute=True, generator="gaussian", targets="classes",
    level_order="ascending",
)  # fmt: skip


@pytest.fixture(scope="module")
def features(bundle_path, demo_frames):
    """Deepest features of six real objects, and their indices in order of appearance."""
    bundle = open_bundle(bundle_path)
    perception = Perception(bundle)
    x = torch.from_numpy(perception.perceive(demo_frames).features)
    names = list(dict.fromkeys(frame.label for frame in demo_frames))
    y = torch.tensor([names.index(frame.label) for frame in demo_frames])
    return 4 * x / x.norm(dim=1, keepdim=True), y


def learn(config, x, y, steps=60):
    learner = GenerativeLearner(x.shape[1], config)
    rng = np.random.default_rng(0)
    for n_classes in (3, 6):
        learner.begin_experience(n_classes, 6, steps)
        ids = np.flatnonzero((y.numpy() >= n_classes - 3) & (y.numpy() < n_classes))
        for _ in range(steps):
            batch = torch.from_numpy(rng.choice(ids, config.batch))
            learner.step(x[batch], y[batch])
        learner.end_experience(x[ids], y[ids])
    return learner


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, schedule="basic"),
        replace(SMALL, schedule="basic", unbias="gradient", gated_share=0.5, targets="labels"),
        replace(SMALL, schedule="basic", feedback=True),
        replace(OURS, schedule="layer_idx"),
        replace(OURS, schedule="basic", recompute=True, generator="gaussian", targets="classes"),
        replace(ASCENDING, unbias="inverse rate"),
        replace(OURS, schedule="basic", feedback=True, generator_levels="drawn", generator_every=1),
    ],
    ids=[
        "internal",
        "slices",
        "unbiased gated",
        "feedback",
        "steps",
        "gaussian steps",
        "gaussian ascending",
        "feedback steps",
    ],
)
def test_old_classes_are_kept_without_any_stored_sample(config, features):
    x, y = features
    learner = learn(config, x, y)
    old = (y < 3).numpy()
    right = learner.predict_many(x) == y.numpy()
    assert right[~old].mean() > 0.6
    assert right[old].mean() > 0.5


def test_without_rehearsal_old_classes_are_lost(features):
    x, y = features
    learner = learn(replace(SMALL, rehearsed=1, targets="labels", schedule="0,0,1"), x, y)
    right = learner.predict_many(x) == y.numpy()
    assert right[(y < 3).numpy()].mean() < 0.5


@pytest.mark.parametrize("level", [1, 2])
def test_a_step_moves_only_the_blocks_from_its_level_up(level, features):
    x, y = features
    shares = ",".join("1" if i == level else "0" for i in range(3))
    learner = learn(replace(OURS, schedule=shares), x, y, steps=5)
    before = [p.clone() for block in learner.classifier.blocks for p in block.parameters()]
    ids = torch.nonzero(y >= 3).flatten()[:16]
    learner.step(x[ids], y[ids])
    after = [p for block in learner.classifier.blocks for p in block.parameters()]
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert moved == [i // 2 >= level for i in range(4)]


def test_multiply_adds_are_counted_for_every_part(features):
    x, y = features
    w1, w2, w3 = 1280 * 32, 32 * 24, 24 * 6
    learner = learn(replace(OURS, schedule="0,1,0", generator_every=10**9), x, y, steps=1)
    before = dict(learner.costs.macs)
    ids = torch.nonzero(y >= 3).flatten()[:16]
    learner.step(x[ids], y[ids])
    spent = {part: learner.costs.macs[part] - before[part] for part in before}
    assert spent["decode"] == 20 * (8 * 24 + w2)
    assert spent["targets"] == 20 * (w2 + 24 * 3)
    assert spent["rehearsal"] == 20 * 3 * (w2 + w3)
    assert spent["new data"] == 16 * (w1 + 3 * (w2 + w3))
    assert spent["generator"] == 0


def test_the_authors_form_decodes_and_answers_in_full_whatever_the_schedule(features):
    x, y = features
    spent = []
    for schedule in ("internal", "total_weights"):
        learner = learn(replace(SMALL, schedule=schedule), x, y, steps=1)
        spent.append((learner.costs.macs["decode"], learner.costs.macs["targets"]))
    assert spent[0] == spent[1]


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="slices"):
        GenerativeConfig(form="slice")
    with pytest.raises(ConfigError, match="feedback"):
        GenerativeConfig(generator_levels="drawn")
