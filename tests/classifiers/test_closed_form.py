import numpy as np
import pytest

from plr_edge.classifiers import CLASSIFIERS, Ridge, StreamingLda
from plr_edge.classifiers.class_means import ClassMeans, SequentialScorer
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.unknown_threshold import fit_means
from plr_edge.errors import StateError

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


@pytest.mark.parametrize("n", [8, N])
def test_ridge_is_the_closed_form_on_standardised_features(data, n):
    x, labels = data[0][:n], data[1][:n]
    ridge = Ridge(D, strength=3.0)
    for i in range(0, n, 5):
        ridge.learn_many(x[i : i + 5], labels[i : i + 5])
    np.testing.assert_allclose(ridge.weights, closed_form(x, labels, x, 3.0), rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("recursive_after", [8, 64])
def test_recursive_ridge_is_the_closed_form_scaled_by_its_first_samples(data, recursive_after):
    x, labels = data
    ridge = Ridge(D, strength=2.0, recursive_after=recursive_after)
    for i in range(0, N, 8):
        ridge.learn_many(x[i : i + 8], labels[i : i + 8])
    exact = closed_form(x, labels, x[:recursive_after], 2.0)
    np.testing.assert_allclose(ridge.weights, exact, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("recursive_after", [16, 4 * N])
def test_a_restored_ridge_learns_on_like_the_original(data, recursive_after):
    x, labels = data
    ridge, again = (Ridge(D, strength=2.0, recursive_after=recursive_after) for _ in range(2))
    ridge.learn_many(x[:100], labels[:100])
    again.restore(ridge.to_arrays(), ridge.learning_arrays())
    for one in (ridge, again):
        one.learn_many(x[100:], labels[100:])
    np.testing.assert_allclose(ridge.weights, again.weights, rtol=1e-5, atol=1e-6)
    with pytest.raises(StateError, match="columns"):
        Ridge(D + 1).restore(ridge.to_arrays())


def closed_form(x, labels, scaled_by, strength):
    x = (x - scaled_by.mean(0)) / scaled_by.std(0)
    ones = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    gram = ones.T @ ones + strength * np.eye(D + 1)
    return np.linalg.solve(gram, ones.T @ np.eye(K)[labels]).T


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
    combined = CombinedClassifier(D, D)
    old = labels != 3
    combined.learn_many(x[old], x[old], labels[old])
    first = np.flatnonzero(labels == 3)[:1]
    combined.means.learn_many(x[first], labels[first])
    probabilities, _, _ = combined.answer_many(x[first], x[first])
    assert probabilities.shape == (1, K)
    assert probabilities.argmax() == 3


def test_what_is_saved_answers_the_same(data):
    x, labels = data
    combined, again = (CombinedClassifier(D, D - 4) for _ in range(2))
    features = x[:, 4:]
    combined.learn_many(x, features, labels)
    combined.rehearsed = combined.means.sums[:3] + 1
    combined.replace_means(*fit_means(features, labels, 0.01))
    again.restore(combined.to_arrays())
    for a, b in zip(combined.answer_many(x, features), again.answer_many(x, features), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert again.unknown_below == pytest.approx(combined.unknown_below)


def test_unknown_is_below_the_asked_share_of_what_was_remembered(data):
    x, labels = data
    combined = CombinedClassifier(D, D)
    combined.learn_many(x, x, labels)
    combined.replace_means(*fit_means(x, labels, 0.05))
    _, similarity, _ = combined.answer_many(x, x)
    # answered with themselves among the mean, so not more than the share; half of it is expected
    assert 0 < (similarity < combined.unknown_below).mean() <= 0.05
    strange = -combined.means.sums.sum(0, keepdims=True)
    assert combined.answer_many(strange, strange)[1] < combined.unknown_below


def test_a_class_that_the_memory_dropped_is_still_answered(data):
    x, labels = data
    combined = CombinedClassifier(D, D)
    combined.learn_many(x, x, labels)
    kept = labels != 3
    combined.replace_means(*fit_means(x[kept], labels[kept], 0.01))
    probabilities, _, _ = combined.answer_many(x[~kept], x[~kept])
    assert (probabilities.argmax(1) == 3).mean() > 0.9


def test_sequential_scores_equal_scoring_and_learning_one_by_one():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 12)).astype(np.float32)
    labels = rng.integers(0, 9, 60)
    alone, stepwise = ClassMeans(12), ClassMeans(12)
    for start in range(0, 60, 20):
        scorer = SequentialScorer(stepwise, x[start : start + 20])
        for i in range(20):
            feature, label = x[start + i : start + i + 1], labels[start + i : start + i + 1]
            np.testing.assert_allclose(scorer.scores(i), alone.scores_many(feature)[0], atol=1e-6)
            if i % 3:
                alone.learn_many(feature, label)
                scorer.learn(i, int(label[0]))
    np.testing.assert_array_equal(stepwise.sums, alone.sums)
    np.testing.assert_array_equal(stepwise.counts, alone.counts)


def test_norms_follow_sums_that_are_replaced():
    rng = np.random.default_rng(1)
    means, other = ClassMeans(12), ClassMeans(12)
    means.learn_many(rng.standard_normal((9, 12)).astype(np.float32), np.arange(9) % 3)
    other.sums, other.counts = means.sums.copy(), means.counts.copy()
    x = rng.standard_normal((4, 12)).astype(np.float32)
    np.testing.assert_array_equal(other.scores_many(x), means.scores_many(x))
