import json

import numpy as np
import pytest

from benchmarks import growth
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.replay.schedule import apportion


def test_the_exponent_is_that_of_a_power():
    assert growth.exponent([1, 10, 100], [3, 30, 300]) == pytest.approx(1)
    assert growth.exponent([1, 10, 100], [5, 5, 5]) == pytest.approx(0)


def test_growth_measures_every_size_with_levels_in_the_proportions_of_the_schedule(
    bundle_path, monkeypatch
):
    learners = []
    filled = growth._filled

    def kept(*arguments):
        size = filled(*arguments)
        learners.append(size.learner)
        return size

    monkeypatch.setattr(growth, "_filled", kept)
    bundle = open_bundle(bundle_path)
    facts = growth.grow(bundle, LearningConfig(), lambda _: None, growth.QUICK)
    assert json.loads(json.dumps(facts)) == facts
    assert [(len(x.features.memory), x.cosine.n_classes) for x in learners] == [
        (64, 3),
        (64, 6),
        (200, 3),
    ]
    expected = [2 * n for n in apportion(learners[0].schedule.shares, 20)]  # warmed up once
    assert all(learner.features.cost.steps_per_level == expected for learner in learners)
    assert [row["bytes"] for row in facts["by_latents"]] == [
        x.features.memory.n_bytes for x in learners[::2]
    ]
    assert facts["exponents"]["bytes over latents"] == pytest.approx(1)
    assert all(ratio > 0 for ratio in facts["ratios"].values())
    ages = learners[0].features._cache.ages(4, np.arange(64), learners[0].features._n_updates[4])
    assert ages.min() >= 0 and ages.max() > 0
    text = growth.markdown(facts)
    assert "| 6 | 64 |" in text and "one at 200 latents" in text
