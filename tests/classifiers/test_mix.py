"""The fitted mix: moments, held-out ends of classes, views, weights, unknown."""

import numpy as np
import pytest

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.mix import Mix, fit_mix
from plr_edge.classifiers.mix_weights import fit_extra_weight, fit_weights, standardised
from plr_edge.classifiers.moments import Moments
from plr_edge.classifiers.tail_samples import TailSamples
from plr_edge.classifiers.unknown_threshold import UnknownRule
from plr_edge.classifiers.views import EVEN, FEATURE, TAPS, Mirror, solve_views, vectors_of

SHAPES = [[3, 2, 2], [5]]  # 12 cells of maps, then 5 values
T, D, K = 17, 8, 5


def stream(n, seed=0, odd=0.0, even=1.0):
    """Samples of K classes in order of class: even and odd taps with the given signal."""
    means, rng = np.random.default_rng(7), np.random.default_rng(seed)
    mirror = Mirror(SHAPES)
    raw = means.standard_normal((2, K, T)).astype(np.float32)
    symmetric = np.zeros((K, T), np.float32)
    symmetric[:, mirror.left] += 0.5 * (raw[0][:, mirror.left] + raw[0][:, mirror.right])
    symmetric[:, mirror.right] = symmetric[:, mirror.left]
    pairs = mirror.left != mirror.right
    turned = np.zeros((K, T), np.float32)
    turned[:, mirror.left[pairs]] = raw[1][:, mirror.left[pairs]]
    turned[:, mirror.right[pairs]] = -raw[1][:, mirror.left[pairs]]
    features = means.standard_normal((K, D)).astype(np.float32)
    labels = np.sort(rng.integers(0, K, n))
    taps = even * symmetric[labels] + odd * turned[labels] + 0.7 * rng.standard_normal((n, T))
    exported = features[labels] + rng.standard_normal((n, D))
    return taps.astype(np.float32), exported.astype(np.float32), labels


def learned(taps, exported, labels, batch=7):
    moments, tails = Moments(T, D), TailSamples(T + D)
    samples = np.concatenate([taps, exported], axis=1)
    for i in range(0, len(labels), batch):
        moments.learn_many(samples[i : i + batch], labels[i : i + batch])
        tails.add_many(samples[i : i + batch], labels[i : i + batch])
    return moments, tails


@pytest.mark.parametrize("batch", [1, 5, 200])
def test_moments_are_those_of_the_samples_in_any_batches(batch):
    taps, exported, labels = stream(150)
    x = np.concatenate([taps, exported], axis=1)
    moments, _ = learned(taps, exported, labels, batch)
    np.testing.assert_allclose(moments.mean, x.mean(0), atol=1e-4)
    np.testing.assert_allclose(moments.covariance(), np.cov(x.T, bias=True), atol=1e-3)
    own = np.stack([x[labels == k].mean(0) - x.mean(0) for k in range(K)])
    np.testing.assert_allclose(moments.class_means(np.arange(K)), own, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_samples_taken_out_of_moments_leave_those_of_the_rest(seed):
    taps, exported, labels = stream(150, seed)
    x = np.concatenate([taps, exported], axis=1)
    moments, _ = learned(taps, exported, labels)
    out = np.random.default_rng(seed).permutation(150)[:40]
    kept = np.setdiff1d(np.arange(150), out)
    before = moments.covariance()
    rest = moments.without(x[out], labels[out])
    assert rest.counts.tolist() == np.bincount(labels[kept], minlength=K).tolist()
    np.testing.assert_allclose(rest.covariance(), np.cov(x[kept].T, bias=True), atol=1e-3)
    np.testing.assert_array_equal(moments.covariance(), before)


def test_moments_go_on_from_their_arrays():
    taps, exported, labels = stream(100)
    x = np.concatenate([taps, exported], axis=1)
    whole, _ = learned(taps, exported, labels, 10)
    part, _ = learned(taps[:60], exported[:60], labels[:60], 10)
    again = Moments(T, D)
    again.restore(part.to_arrays())
    for i in range(60, 100, 10):
        again.learn_many(x[i : i + 10], labels[i : i + 10])
    np.testing.assert_allclose(again.covariance(), whole.covariance(), atol=1e-4)
    assert again.counts.tolist() == whole.counts.tolist()


def test_the_newest_of_each_class_are_held_out_behind_a_gap():
    tails = TailSamples(1)
    for i in range(40):  # two classes in turns; a sample holds its own number
        tails.add_many(np.float32([[i]]), np.array([i % 2]))
    tails.add_many(np.float32([[100], [101]]), np.array([2, 2]))  # too few to hold any out
    samples, labels, evaluated = tails.held_out()
    assert samples[labels == 0, 0].tolist() == [32, 34, 36, 38]
    assert evaluated[labels == 0].tolist() == [False, True, True, True]
    assert 2 not in labels
    again = TailSamples(1)
    again.restore(tails.to_arrays())
    for one, other in zip(again.held_out(), (samples, labels, evaluated), strict=True):
        np.testing.assert_array_equal(one, other)


def test_held_out_samples_do_not_grow_without_limit():
    tails, rng = TailSamples(2), np.random.default_rng(0)
    for k in range(300):
        tails.add_many(rng.standard_normal((30, 2)).astype(np.float32), np.full(30, k))
    samples, _, evaluated = tails.held_out()
    assert evaluated.sum() <= 600 and len(samples) <= 900


def test_a_mirrored_image_has_the_same_even_and_the_opposite_odd_taps():
    mirror, rng = Mirror(SHAPES), np.random.default_rng(0)
    maps, vector = rng.standard_normal((4, 3, 2, 2)), rng.standard_normal((4, 5))
    taps = np.concatenate([maps.reshape(4, -1), vector], axis=1)
    mirrored = np.concatenate([maps[..., ::-1].reshape(4, -1), vector], axis=1)
    np.testing.assert_allclose(mirror.even(taps), mirror.even(mirrored))
    np.testing.assert_allclose(mirror.odd(taps), -mirror.odd(mirrored))
    assert mirror.even(taps).shape[1] == 6 + 5 and mirror.odd(taps).shape[1] == 6


@pytest.mark.parametrize("parts", [(TAPS,), (EVEN, FEATURE), (TAPS, FEATURE)])
def test_a_view_solves_ridge_and_lda(parts):
    taps, exported, labels = stream(400)
    moments, _ = learned(taps, exported, labels)
    mirror = Mirror(SHAPES)
    (view,) = solve_views(moments, np.arange(K), [parts], mirror)
    x = vectors_of(parts, taps, exported, mirror)
    standard = ((x - x.mean(0)) * view.scale).astype(np.float64)
    d, n = standard.shape[1], len(labels)
    strength = 0.05 + 0.3 * d / n
    targets = np.eye(K)[labels]
    frequencies = targets.mean(0)
    total = standard.T @ standard / n + strength * np.eye(d)
    ridge = standard @ np.linalg.solve(total, standard.T @ (targets - frequencies) / n)
    products = view.products(x)
    np.testing.assert_allclose(view.ridge(products), ridge + frequencies, atol=2e-3)
    means = targets.T @ standard / targets.sum(0)[:, None]
    within = total - (means.T * frequencies) @ means
    solved = np.linalg.solve(within, means.T)
    discriminants = standard @ solved - 0.5 * np.sum(means * solved.T, axis=1)
    np.testing.assert_allclose(view.lda(products), discriminants, atol=0.05, rtol=0.01)
    nearest = [
        min((row - mean) @ np.linalg.solve(within, row - mean) for mean in means)
        - row @ np.linalg.solve(total, row)
        for row in standard[:20]
    ]
    np.testing.assert_allclose(view.familiarity(products[:20]), -np.array(nearest), atol=0.1)


def test_weights_favour_the_classifier_that_is_right():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, 300)
    good = 2.0 * np.eye(K)[labels] + rng.standard_normal((300, K))
    noise = rng.standard_normal((300, K))
    scores = np.stack([standardised(noise), standardised(good)])
    weights = fit_weights(scores, labels, np.ones(2))
    assert weights[1] > 3 * weights[0] >= 0
    few = fit_weights(scores[:, :4], labels[:4], np.ones(2))
    assert few[1] / few[0] < weights[1] / max(weights[0], 1e-9)  # fewer samples move them less


def test_a_classifier_that_adds_nothing_gets_no_weight():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, K, 200)
    logits = 4.0 * np.eye(K)[labels] + rng.standard_normal((200, K))
    against = standardised(-np.eye(K)[labels] + 0.1 * rng.standard_normal((200, K)))
    helpful = standardised(np.eye(K)[labels] + 0.1 * rng.standard_normal((200, K)))
    assert fit_extra_weight(logits, against, labels) == (1.0, 0.0)
    assert fit_extra_weight(logits, helpful, labels)[1] > 0.5


@pytest.mark.parametrize(
    ("odd", "even", "kind"), [(0.0, 1.0, "mirrored"), (1.0, 1.0, "plain"), (1.0, 0.0, "plain")]
)
def test_even_taps_answer_only_where_a_mirrored_image_has_the_same_label(odd, even, kind):
    mix = fit_mix(*learned(*stream(500, odd=odd, even=even)), Mirror(SHAPES), 0.05)
    assert mix.kind == kind
    taps, exported, labels = stream(500, seed=9, odd=odd, even=even)
    logits, _ = mix.answer_many(taps, exported, Mirror(SHAPES))
    assert (mix.classes[logits.argmax(1)] == labels).mean() > 0.85


def test_a_mix_without_held_out_samples_can_be_stored():
    taps, exported, labels = stream(400)
    few = np.concatenate([np.flatnonzero(labels == k)[:3] for k in range(K)])
    few = np.concatenate([few, np.flatnonzero(labels == 0)[3:13]])
    mix = fit_mix(*learned(taps[few], exported[few], labels[few]), Mirror(SHAPES), 0.05)
    assert mix.held_accuracy is None and mix.unknown is None
    arrays = mix.to_arrays()
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert Mix.from_arrays(arrays).facts() == mix.facts()


@pytest.mark.parametrize("shapes", [SHAPES, None])
def test_a_mix_answers_the_same_from_its_arrays(shapes):
    mirror = Mirror(shapes) if shapes else None
    mix = fit_mix(*learned(*stream(300)), mirror, 0.05)
    again = Mix.from_arrays(mix.to_arrays())
    taps, exported, _ = stream(50, seed=3)
    for one, other in zip(
        mix.answer_many(taps, exported, mirror),
        again.answer_many(taps, exported, mirror),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert again.facts() == mix.facts()


@pytest.mark.parametrize("n_taps", [0, T])
def test_networks_without_taps_have_a_mix_too(n_taps):
    taps, exported, labels = stream(300)
    combined = CombinedClassifier(n_taps, D)
    combined.learn_many(taps[:, :n_taps], exported, labels)
    combined.mixing.mix = combined.mixing.fitted(final=True)
    taps, exported, labels = stream(100, seed=5)
    answers = combined.answer_many(taps[:, :n_taps], exported)
    assert (answers.probabilities.argmax(1) == labels).mean() > 0.7


def test_no_mix_is_fitted_to_one_class_or_to_a_handful_of_samples():
    taps, exported, labels = stream(200)
    assert fit_mix(*learned(taps, exported, labels * 0), None, 0.01) is None
    assert fit_mix(*learned(taps[::20], exported[::20], labels[::20]), None, 0.01) is None


def test_about_the_share_asked_for_is_called_unknown_and_most_strangers_are():
    taps, exported, labels = stream(3000)
    known = labels < K - 1
    moments, tails = learned(taps[known], exported[known], labels[known])
    mix = fit_mix(moments, tails, Mirror(SHAPES), 0.05)
    taps, exported, labels = stream(3000, seed=4)
    _, unknown = mix.answer_many(taps, exported, Mirror(SHAPES))
    assert 0.02 < unknown[labels < K - 1].mean() < 0.09
    assert unknown[labels == K - 1].mean() > 0.4


def test_the_threshold_follows_the_share_that_is_set():
    rule = UnknownRule.fit(np.random.default_rng(0).standard_normal((1000, 3)), 0.02)
    combined = CombinedClassifier(T, D, tap_shapes=SHAPES, false_unknown=0.02)
    combined.learn_many(*stream(500))
    combined.mixing.mix = combined.mixing.fitted(final=True)
    before = combined.mix.unknown.threshold
    combined.mixing.allow_unknown(0.2)
    assert combined.mix.unknown.threshold > before
    assert (rule.held_out < rule.threshold).mean() == pytest.approx(0.02, abs=0.002)


def test_a_handful_of_held_out_samples_cannot_tell_one_in_a_hundred():
    combined = CombinedClassifier(T, D, tap_shapes=SHAPES, false_unknown=0.01)
    combined.learn_many(*stream(200))
    combined.mixing.mix = combined.mixing.fitted(final=True)
    assert not combined.mix.unknown.decides
    taps, exported, _ = stream(300, seed=2)
    assert not combined.answer_many(3 * taps, 3 * exported).unknown.any()
    combined.mixing.allow_unknown(0.1)
    assert combined.mix.unknown.decides


def test_confidence_is_close_to_accuracy():
    combined = CombinedClassifier(T, D, tap_shapes=SHAPES)
    combined.learn_many(*stream(2000, even=0.5))
    combined.mixing.mix = combined.mixing.fitted(final=True)
    taps, exported, labels = stream(2000, seed=8, even=0.5)
    p = combined.answer_many(taps, exported).probabilities
    assert p.max(1).mean() == pytest.approx((p.argmax(1) == labels).mean(), abs=0.03)


def test_a_class_taught_after_the_fit_is_answered_and_the_others_still_are():
    taps, exported, labels = stream(1000)
    old = labels < K - 1
    combined = CombinedClassifier(T, D, tap_shapes=SHAPES)
    combined.learn_many(taps[old], exported[old], labels[old])
    combined.mixing.mix = combined.mixing.fitted(final=True)
    new = np.flatnonzero(~old)[:30]
    combined.learn_many(taps[new], exported[new], labels[new])
    taps, exported, labels = stream(1000, seed=6)
    predicted = combined.answer_many(taps, exported).probabilities.argmax(1)
    for k in range(K):
        assert (predicted[labels == k] == k).mean() > 0.6


def test_a_state_without_moments_keeps_its_classifier():
    taps, exported, labels = stream(300)
    combined, old = CombinedClassifier(T, D), CombinedClassifier(T, D)
    combined.learn_many(taps, exported, labels)
    learning = {k: v for k, v in combined.learning_arrays().items() if k.startswith("ridge.")}
    arrays = {k: v for k, v in combined.to_arrays().items() if k != "beside_rehearsed"}
    old.restore(arrays, learning)
    assert not old.is_fit_due(final=True)
    old.learn_many(taps[:10], exported[:10], labels[:10])
    assert not old.is_fit_due(final=True)
    assert combined.is_fit_due(final=True)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-7, 0.0])
def test_values_that_hardly_vary_are_solved_too(spread):
    """As those of networks with random weights: all of their spread is rounding."""
    rng = np.random.default_rng(0)
    samples = (1e3 + spread * rng.standard_normal((200, T + D))).astype(np.float32)
    labels = np.sort(rng.integers(0, K, 200))
    samples[:, -1] += labels
    moments, tails = learned(samples[:, :T], samples[:, T:], labels)
    mix = fit_mix(moments, tails, Mirror(SHAPES), 0.01)
    logits, _ = mix.answer_many(samples[:, :T], samples[:, T:], Mirror(SHAPES))
    assert np.isfinite(logits).all()


def test_a_covariance_that_rounding_made_indefinite_is_regularised_until_it_is_not():
    taps, exported, labels = stream(150)
    moments, _ = learned(taps, exported, labels)
    moments._matrix.panels[0][:] -= 40 * np.eye(T + D, dtype=np.float32)  # as rounding would
    (view,) = solve_views(moments, np.arange(K), [(TAPS, FEATURE)], None)
    assert np.isfinite(view.weights).all()
