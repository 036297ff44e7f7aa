import numpy as np
import pytest

from plr_edge.classifiers import CLASSIFIERS, Ridge, StreamingLda
from plr_edge.classifiers.combined import CombinedClassifier

D, K, N = 12, 4, 240


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    means = rng.standard_normal((K, D)) * 2
    labels = rng.permutation(np.arange(N) % K)
    x = means[labels] + rng.standard_normal((N, D))
    return x.astype(np.float32), labels


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_order_and_batches_make_no_difference(name, data):
    x, labels = data
    whole, parts = CLASSIFIERS[name](D), CLASSIFIERS[name](D)
    whole.learn_many(x, labels)
    order = np.argsort(labels, kind="stable")
    for i in range(0, N, 7):
        parts.learn_many(x[order[i : i + 7]], labels[order[i : i + 7]])
    np.testing.assert_allclose(whole.scores_many(x), parts.scores_many(x), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_separable_classes_are_told_apart(name, data):
    x, labels = data
    classifier = CLASSIFIERS[name](D)
    classifier.learn_many(x[: N // 2], labels[: N // 2])
    right = classifier.scores_many(x[N // 2 :]).argmax(1) == labels[N // 2 :]
    assert right.mean() > 0.9


def test_ridge_is_the_closed_form(data):
    x, labels = data
    ridge = Ridge(D, strength=3.0)
    ridge.learn_many(x, labels)
    ones = np.concatenate([x, np.ones((N, 1))], axis=1)
    exact = np.linalg.solve(ones.T @ ones + 3.0 * np.eye(D + 1), ones.T @ np.eye(K)[labels]).T
    np.testing.assert_allclose(ridge.weights, exact, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("n", [8, N])
def test_ridge_refit_then_update_is_a_refit_on_everything_with_the_same_scaling(data, n):
    x, labels = data
    ridge, other = Ridge(D, strength=2.0), Ridge(D, strength=2.0)
    ridge.refit(x[:n], labels[:n])
    other.mean, other.scale = ridge.mean, ridge.scale
    other.learn_many(x[:n], labels[:n])
    np.testing.assert_allclose(ridge.weights, other.weights, rtol=0.02, atol=1e-4)


def test_lda_matches_the_textbook(data):
    x, labels = data
    lda = StreamingLda(D, shrinkage=0.0)
    lda.learn_many(x, labels)
    means = np.stack([x[labels == k].mean(0) for k in range(K)]).astype(np.float64)
    within = (x - means[labels]).T @ (x - means[labels]) / N
    weights = np.linalg.solve(within, means.T)
    exact = x @ weights - 0.5 * np.diag(means @ weights)
    np.testing.assert_allclose(lda.scores_many(x), exact, rtol=1e-3, atol=1e-3)


def test_a_new_class_answers_from_its_first_frame(data):
    x, labels = data
    combined = CombinedClassifier(0, D, 1.0)
    none = np.zeros((N, 0), np.float32)
    old = labels != 3
    combined.learn_many(none[old], x[old], labels[old])
    first = np.flatnonzero(labels == 3)[:1]
    combined.means.learn_many(x[first], labels[first])
    answer = combined.answer_many(none[first], x[first])
    assert answer.probabilities.shape == (1, K)
    assert answer.probabilities.argmax() == 3


def test_what_is_saved_answers_the_same(data):
    x, labels = data
    combined = CombinedClassifier(4, D - 4, 1.0)
    taps, features = x[:, :4], x[:, 4:]
    combined.refit(taps, features, labels, np.zeros((K, D - 4), np.float32) + 1, 0.01)
    again = CombinedClassifier.from_arrays(combined.to_arrays(), 4)
    a, b = combined.answer_many(taps, features), again.answer_many(taps, features)
    np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=1e-4, atol=1e-6)
    assert again.unknown_below == pytest.approx(combined.unknown_below)
