"""Every row counts what learning took: sums, solving, choosing settings, and updates."""

import numpy as np
import pytest
import torch

from benchmarks.methods import closed_forms
from benchmarks.methods.base import adam_macs, sgd_macs
from benchmarks.methods.codecs import ProductCodec
from benchmarks.methods.feature_classifiers import FEATURE_CLASSIFIERS
from benchmarks.methods.registry import METHODS, make_method
from benchmarks.methods.rehearsal import learner_macs
from benchmarks.methods.vae_classifier import VaeClassifier
from benchmarks.run import Run
from plr_edge.config import LearningConfig

WIDTH, K, N = 32, 4, 400
SOLVE = WIDTH**3 // 3 + K * WIDTH**2


def learned(name, n=N):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, WIDTH)).astype(np.float32), np.arange(n) % K
    classifier = FEATURE_CLASSIFIERS[name](WIDTH, K)
    for start in range(0, n, 16):
        classifier.learn_many(x[start : start + 16], y[start : start + 16])
    return classifier, x


@pytest.mark.parametrize("name", ["streaming LDA", "ridge", "random-feature ridge"])
def test_solving_and_choosing_a_setting_count(name, monkeypatch):
    monkeypatch.setattr(closed_forms, "_RANDOM_FEATURES", 64)
    classifier, x = learned(name)
    sums = classifier.macs
    classifier.scores_many(x[:8])
    width = 64 if name == "random-feature ridge" else WIDTH
    each = width**3 // 3 + K * width**2
    assert classifier.macs - sums >= 7 * each  # six settings, and the answer
    before = classifier.macs
    classifier.scores_many(x[8:])
    assert classifier.macs == before  # nothing was learned since: nothing is solved
    classifier.learn_many(x[:1], np.array([0]))
    sums = classifier.macs
    classifier.scores_many(x[8:])
    assert each <= classifier.macs - sums < 2 * each + K * width**2


def test_sums_count_once_for_each_matrix_that_they_are_added_to():
    assert learned("streaming LDA")[0].macs == (N + 0.9 * N) * WIDTH**2
    assert learned("ridge")[0].macs == N * (WIDTH + 1) * (WIDTH + 1 + K)
    assert learned("nearest class mean")[0].macs == N * WIDTH
    assert learned("naive Bayes")[0].macs == 2 * N * WIDTH
    assert learned("perceptron")[0].macs == 3 * N * WIDTH * K
    steps = N // 16
    weights = K * (WIDTH + 1)
    assert learned("naive linear classifier")[0].macs == 2 * (N + steps) * weights


def test_choosing_k_counts():
    classifier, x = learned("k nearest neighbours")
    assert classifier.macs == 0
    classifier.scores_many(x[:8])
    assert classifier.macs == 3 * 40 * 360 * WIDTH


def test_updates_of_weights_count():
    weights = [torch.zeros(3, 4), torch.zeros(5)]
    assert sgd_macs(weights) == 34 and adam_macs(weights) == 85
    classifier = VaeClassifier(6, hidden=4, z_width=2, steps=3, batch=5)
    x = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    classifier.learn_many(x, np.arange(20) % 2)
    each = 6 * 4 + 4 * 4 + 2 * 4 + 4 * 6
    biases = 4 + 4 + 4 + 6
    assert classifier.macs == 3 * 3 * 5 * 2 * each + 3 * 5 * 2 * (each + biases)


def test_fitting_a_codebook_counts():
    codec = ProductCodec(np.random.default_rng(0).random((300, 10, 1, 1), np.float32))
    assert codec.fit_macs == 10 * 300 * 10 * 256
    assert codec.encode_macs == 10 * 256


ON_FILMS = [n for n, spec in METHODS.items() if spec.fits("mobilenet_v2") and not spec.slow]


@pytest.mark.parametrize("name", ON_FILMS)
def test_every_method_on_a_bundle_counts_learning_and_perception(made, name):
    benchmark = made.benchmark(n_experiences=3, per_class=6)
    method = make_method(name, benchmark, LearningConfig(), {})
    row = Run(method, benchmark).run()
    assert row["macs"] > 0 or name == "k nearest neighbours"  # too few frames to choose k on
    bundle = benchmark.bundle
    forward = bundle.manifest["frozen_macs"] + sum(level.macs for level in bundle.levels)
    assert row["perception_macs_per_frame"] == forward
    if name == "joint training":
        learner = method.learner
        n_steps = sum(learner.features.cost.steps_per_level)
        assert n_steps > 0
        assert learner_macs(learner) - learner.features.cost.macs == n_steps * (
            sgd_macs(learner.blocks.parameters()) + 2 * learner.cosine.weight.numel()
        )
