import numpy as np
import pytest

from benchmarks.methods.codecs import FloatCodec, ProductCodec
from benchmarks.methods.feature_classifiers import FEATURE_CLASSIFIERS
from benchmarks.methods.scikit import NaiveBayes


def gaussian(n_classes=8, n=30, width=16, seed=0):
    rng = np.random.default_rng(seed)
    means = 1.5 * rng.standard_normal((n_classes, width))
    y = np.repeat(np.arange(n_classes), n)
    x = (means[y] + rng.standard_normal((len(y), width))).astype(np.float32)
    order = rng.permutation(len(y))
    return x[order], y[order]


@pytest.mark.parametrize("name", FEATURE_CLASSIFIERS)
def test_every_feature_classifier_tells_gaussians_apart_and_counts_what_it_keeps(name):
    x, y = gaussian()
    method = FEATURE_CLASSIFIERS[name](x.shape[1], 8)
    for start in range(0, 160, 16):
        method.learn_many(x[start : start + 16], y[start : start + 16])
    right = (method.scores_many(x[160:]).argmax(1) == y[160:]).mean()
    assert right > (0.5 if name in ("perceptron", "naive linear classifier") else 0.8)
    assert method.n_bytes > 0


def test_lda_and_nearest_mean_answer_as_scikit_learn_does():
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    neighbours = pytest.importorskip("sklearn.neighbors")
    x, y = gaussian(width=8)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for name, other in (
        (
            "streaming LDA",
            analysis.LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(8, 1 / 8)),
        ),
        ("nearest class mean", neighbours.NearestCentroid()),
    ):
        ours = FEATURE_CLASSIFIERS[name](8, 8)
        ours.learn_many(x[:160], y[:160])
        theirs = other.fit(x[:160], y[:160]).predict(x[160:])
        assert (ours.scores_many(x[160:]).argmax(1) == theirs).mean() > 0.93


def test_ridge_from_sums_is_ridge_over_standardised_values():
    x, y = gaussian(width=8)
    x[:, 0] = 100 + 3 * x[:, 0]  # far from zero, and wider
    ours = FEATURE_CLASSIFIERS["ridge"](8, 8)
    for start in range(0, len(y), 16):
        ours.learn_many(x[start : start + 16], y[start : start + 16])
    scores = ours.scores_many(x)
    z, targets = (x - x.mean(0)) / x.std(0), np.eye(8)[y]
    expected = [
        z @ np.linalg.solve(z.T @ z + 8 * share * np.eye(8), z.T @ targets) + targets.mean(0)
        for share in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    ]
    assert min(abs(scores - one).max() for one in expected) < 1e-3


def test_naive_bayes_scores_are_log_likelihoods():
    x, y = gaussian(n_classes=3, width=4)
    ours = NaiveBayes(4, 3)
    ours.learn_many(x, y)
    floor = 0.1 * x.var(0).mean()
    expected = np.stack(
        [
            -0.5 * (((x - x[y == c].mean(0)) ** 2 / (x[y == c].var(0) + floor)).sum(1)
                    + np.log(2 * np.pi * (x[y == c].var(0) + floor)).sum())
            for c in range(3)
        ], 1,
    )  # fmt: skip
    np.testing.assert_allclose(ours.scores_many(x), expected, rtol=1e-4, atol=1e-3)


def test_naive_bayes_answers_after_a_single_sample():
    x, y = gaussian(n_classes=3, width=4)
    ours = NaiveBayes(4, 3)
    ours.learn_many(x[:1], y[:1])
    with np.errstate(all="raise"):
        assert (ours.scores_many(x).argmax(1) == y[0]).all()


def test_codecs_give_back_what_they_can():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((50, 10, 2, 2)).astype(np.float32)
    floats = FloatCodec((10, 2, 2))
    np.testing.assert_array_equal(floats.decode(floats.encode(latents)), latents)
    product = ProductCodec(latents[:, :, :1, :1])  # no more rows than codes: exact
    one = latents[:, :, :1, :1]
    assert product.encode(one).shape == (50, product.record_bytes)
    assert abs(product.decode(product.encode(one)) - one).mean() < 0.35 * abs(one).mean()
