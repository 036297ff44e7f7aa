"""Going on from statistics instead of samples, against what learned the samples."""

import numpy as np
import pytest

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.moments import Moments
from plr_edge.classifiers.ridge import Ridge
from plr_edge.classifiers.statistics_only import drop_samples, without_class

T, D, K = 24, 10, 4


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    y = np.arange(240) % K
    mixing = rng.standard_normal((T + D, T + D)) / 6
    x = 3 * rng.standard_normal((K, T + D))[y] + rng.standard_normal((240, T + D)) @ mixing + 5
    return x.astype(np.float32), y


def classifier_of(x, y):
    made = CombinedClassifier(T, D)
    made.learn_many(x[:, :T], x[:, T:], y)
    return made


@pytest.mark.parametrize("n", [30, 240])
def test_ridge_from_moments_is_ridge_from_samples(n, samples):
    x, y = samples[0][:n], samples[1][:n]
    made = classifier_of(x, y)
    expected = made.ridge.weights.copy()
    drop_samples(made)
    assert len(made.ridge.learning_arrays()["rows"]) == 0
    assert np.allclose(made.ridge.weights, expected, atol=1e-4)
    more = Ridge(T)  # and goes on like one that learns recursively from here
    more.learn_many(x[:, :T], y)
    more.solve()
    more._switch_to_recursive()
    for one in (more, made.ridge):
        one.learn_many(samples[0][:8, :T], samples[1][:8])
    assert np.allclose(made.ridge.weights, more.weights, atol=1e-4)


def test_recentred_moments_are_the_same_moments(samples):
    x, y = samples
    moments = Moments(T, D)
    moments.learn_many(x[:1], y[:1])  # the shift is this sample
    moments.learn_many(x[1:], y[1:])
    other = moments.recentred()
    assert np.abs(other.shift - x.mean(0)).max() < 1e-4
    assert np.allclose(other.covariance(), np.cov(x.T, bias=True), atol=1e-4)
    assert np.allclose(
        other.class_means(np.arange(K)), moments.class_means(np.arange(K)), atol=1e-4
    )


@pytest.mark.parametrize("label", [0, 2, K - 1])
def test_a_class_takes_its_mean_with_it_and_leaves_the_covariance_within_classes(label, samples):
    x, y = samples
    moments = Moments(T, D)
    moments.learn_many(x, y)
    left = moments.without_class(label)
    kept = np.arange(K) != label
    means = np.stack([x[y == k].mean(0) for k in range(K)])
    within = np.mean([np.cov(x[y == k].T, bias=True) for k in range(K)], axis=0)
    assert left.counts.tolist() == [60] * (K - 1)
    assert np.allclose(left.mean, x[y != label].mean(0), atol=1e-3)
    centre = means[kept].mean(0)
    assert np.allclose(left.class_means(np.arange(K - 1)), means[kept] - centre, atol=1e-3)
    between = np.cov(means[kept].T, bias=True)
    assert np.allclose(left.covariance(), within + between, atol=1e-3)


def test_a_classifier_without_a_class_answers_like_one_that_never_met_it(samples):
    x, y = samples
    whole = classifier_of(x, y)
    whole.mixing.mix = whole.mixing.fitted(final=True)
    left = without_class(whole, 1)
    never = classifier_of(x[y != 1], np.where(y > 1, y - 1, y)[y != 1])
    never.mixing.mix = never.mixing.fitted(final=True)
    own = x[y != 1]
    answers = [one.answer_many(own[:, :T], own[:, T:]).probabilities for one in (left, never)]
    assert answers[0].shape == answers[1].shape == (180, K - 1)
    assert (answers[0].argmax(1) == answers[1].argmax(1)).mean() > 0.98
    assert left.mix is not None and left.mix.classes.tolist() == [0, 1, 2]
