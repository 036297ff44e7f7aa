"""Mix: several closed-form classifiers whose weights were fitted to held-out samples. NumPy only.

Its classifiers are ridge and LDA over views of the sample, and the nearest class mean. Which views,
how much each counts, the temperature of the probabilities and the threshold of `unknown` are all
fitted to the ends of the classes, with classifiers that have not learned these; then every
classifier is solved again on all samples. See `TailSamples` for why single frames will not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plr_edge.classifiers.class_means import unit
from plr_edge.classifiers.mix_weights import fit_weights, standardised
from plr_edge.classifiers.moments import Moments
from plr_edge.classifiers.tail_samples import TailSamples
from plr_edge.classifiers.unknown_threshold import UnknownRule, unknown_scores
from plr_edge.classifiers.views import (
    EVEN,
    FEATURE,
    ODD,
    TAPS,
    Mirror,
    View,
    solve_views,
    vectors_of,
)
from plr_edge.tensors import with_prefix, without_prefix

MIN_SAMPLES = 24  # of all classes together, below which class means answer alone
_MIN_HELD = 8  # held-out samples that can decide something
_MIRRORED_BELOW = 0.85  # accuracy of the odd taps over that of the even ones
_MEANS_PRIOR = 2.0  # weight of class means in the prior, where the others have 1
_PRIOR_SUM = 3.0
_RIDGE, _LDA = "ridge", "lda"

# views, and the classifiers of them that the mix holds
_PLAIN = (((TAPS,), (_RIDGE, _LDA)), ((TAPS, FEATURE), (_LDA,)))
_MIRRORED = (((TAPS,), (_LDA,)), ((EVEN,), (_LDA,)), ((EVEN, FEATURE), (_RIDGE, _LDA)))
_WITHOUT_TAPS = (((FEATURE,), (_RIDGE, _LDA)),)
_KINDS = {"plain": _PLAIN, "mirrored": _MIRRORED, "without taps": _WITHOUT_TAPS}


@dataclass(frozen=True)
class Mix:
    """A fitted mix. Immutable, so any thread may answer with it while learning goes on.

    Attributes:
        kind: name of the set of views, a key of `_KINDS`.
        views: the views.
        classes: (K,) class indices that it knows.
        counts: (K,) int64 samples of them that it was solved for.
        class_means: (K, D) float32 unit-length means of the exported feature.
        weights: (P,) of the classifiers in their order, that of class means last. Their softmax is
            a probability.
        n_samples: number of samples that its classifiers were solved for.
        n_weighted: number of samples when its weights were fitted.
        held_accuracy: accuracy on held-out samples before they were learned. None without any.
        unknown: when a frame is unknown. None while too few samples are held out.
        fit_macs: multiply-adds that fitting took. Not stored.
    """

    kind: str
    views: tuple[View, ...]
    classes: np.ndarray
    counts: np.ndarray
    class_means: np.ndarray
    weights: np.ndarray
    n_samples: int
    n_weighted: int
    held_accuracy: float | None = None
    unknown: UnknownRule | None = None
    fit_macs: float = 0.0

    def scores(
        self, taps: np.ndarray, features: np.ndarray, mirror: Mirror | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score a batch with each classifier.

        Args:
            taps: (n, T) float32.
            features: (n, D) float32, exported.
            mirror: pairs of the taps.

        Returns:
            scores: (P, n, K) standardised.
            familiarity: (n, 2): relative Mahalanobis distance negated, and largest cosine.
        """
        parts, familiarity = list[np.ndarray](), np.zeros(len(taps), np.float32)
        for view, (_, kinds) in zip(self.views, _KINDS[self.kind], strict=True):
            products = view.products(vectors_of(view.parts, taps, features, mirror))
            for kind in kinds:
                parts.append(view.ridge(products) if kind == _RIDGE else view.lda(products))
            familiarity = view.familiarity(products)
        cosines = unit(features) @ self.class_means.T
        parts.append(cosines)
        largest = cosines.max(axis=1, initial=-1.0)
        return (
            np.stack([standardised(part) for part in parts]),
            np.stack([familiarity, largest], axis=1),
        )

    def answer_many(
        self, taps: np.ndarray, features: np.ndarray, mirror: Mirror | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classify a batch; see `scores` for the arguments.

        Returns:
            logits: (n, K) of the classes it knows; their softmax is a probability.
            unknown: (n,) bool.
        """
        scores, familiarity = self.scores(taps, features, mirror)
        logits = np.tensordot(self.weights, scores, 1)
        if self.unknown is None:
            return logits, np.zeros(len(taps), bool)
        return logits, self.unknown.are_unknown(unknown_scores(logits, familiarity))

    def facts(self) -> dict[str, Any]:
        """Return what people want to know of it. It fits JSON."""
        kinds = [
            f"{kind} of {' and '.join(parts)}" for parts, of in _KINDS[self.kind] for kind in of
        ]
        weights = dict(zip([*kinds, "class means"], self.weights.tolist(), strict=True))
        accuracy = None if self.held_accuracy is None else round(self.held_accuracy, 4)
        rule = self.unknown
        return {
            "kind": self.kind,
            "weights": {name: round(weight, 2) for name, weight in weights.items()},
            "n_samples": self.n_samples,
            "held_out_accuracy": accuracy,
            "false_unknown": None if rule is None else rule.false_unknown,
            "unknown_below": round(rule.threshold, 4) if rule and rule.decides else None,
            "n_held_out": 0 if rule is None else len(rule.held_out),
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what `from_arrays` needs."""
        arrays = {
            "kind": np.array([list(_KINDS).index(self.kind)], np.int64),
            "classes": self.classes,
            "counts": self.counts,
            "class_means": self.class_means,
            "weights": self.weights.astype(np.float32),
            "n_samples": np.array([self.n_samples, self.n_weighted], np.int64),
            "held_accuracy": np.array(
                [] if self.held_accuracy is None else [self.held_accuracy], np.float32
            ),
        }
        for i, view in enumerate(self.views):
            arrays |= with_prefix(f"view{i}", view.to_arrays())
        if self.unknown is not None:
            arrays |= with_prefix("unknown", self.unknown.to_arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Mix:
        """Restore what `to_arrays` returned."""

        kind, accuracy = list(_KINDS)[int(arrays["kind"][0])], arrays["held_accuracy"]
        rule = without_prefix("unknown", arrays)
        return cls(
            kind=kind,
            views=tuple(
                View.from_arrays(parts, without_prefix(f"view{i}", arrays))
                for i, (parts, _) in enumerate(_KINDS[kind])
            ),
            classes=arrays["classes"],
            counts=arrays["counts"],
            class_means=arrays["class_means"],
            weights=arrays["weights"],
            n_samples=int(arrays["n_samples"][0]),
            n_weighted=int(arrays["n_samples"][1]),
            held_accuracy=float(accuracy[0]) if len(accuracy) else None,
            unknown=UnknownRule.from_arrays(rule) if rule else None,
        )


def solved_again(mix: Mix, moments: Moments, mirror: Mirror | None) -> Mix:
    """Solve the classifiers of a mix on all samples, and keep what was fitted to held-out ones."""
    new = _solve(moments, mix.kind, mirror)
    return replace(
        new,
        weights=mix.weights,
        n_weighted=mix.n_weighted,
        held_accuracy=mix.held_accuracy,
        unknown=mix.unknown,
    )


def fit_mix(
    moments: Moments, tails: TailSamples, mirror: Mirror | None, false_unknown: float
) -> Mix | None:
    """Fit a mix to all samples, with weights from the held-out ones.

    Args:
        moments: moments of all samples.
        tails: the newest samples of each class.
        mirror: pairs of the taps. None where they are not known.
        false_unknown: see `UnknownRule`.

    Returns:
        The mix. None for fewer than two classes or too few samples.
    """
    if moments.n < MIN_SAMPLES or (moments.counts > 0).sum() < 2:
        return None
    samples, labels, evaluated = tails.held_out()
    rest = moments.without(samples, labels) if evaluated.sum() >= _MIN_HELD else None
    if rest is not None:
        known = rest.counts[labels] > 0
        rows = np.flatnonzero(evaluated & known)
        if len(rows) >= _MIN_HELD and (rest.counts > 0).sum() >= 2:
            held = samples[rows], labels[rows]
            return _fit_with_held_out(moments, rest, held, mirror, false_unknown)
    kind = "without taps" if moments.n_taps == 0 else "plain"
    return _solve(moments, kind, mirror)


def _fit_with_held_out(
    moments: Moments,
    rest: Moments,
    held: tuple[np.ndarray, np.ndarray],
    mirror: Mirror | None,
    false_unknown: float,
) -> Mix:
    samples, labels = held
    taps, features = samples[:, : moments.n_taps], samples[:, moments.n_taps :]
    kind, kind_macs = _kind(rest, taps, features, labels, mirror)
    without = _solve(rest, kind, mirror)
    scores, familiarity = without.scores(taps, features, mirror)
    truth = np.searchsorted(without.classes, labels)
    weights = fit_weights(scores, truth, _prior(kind))
    logits = np.tensordot(weights, scores, 1)
    mix = _solve(moments, kind, mirror)
    n_out_macs = len(labels) * moments.width**2 / 2  # taking the held-out samples out
    return replace(
        mix,
        weights=weights,
        held_accuracy=float((logits.argmax(axis=1) == truth).mean()),
        unknown=UnknownRule.fit(unknown_scores(logits, familiarity), false_unknown),
        fit_macs=mix.fit_macs + without.fit_macs + kind_macs + n_out_macs,
    )


def _kind(
    rest: Moments, taps: np.ndarray, features: np.ndarray, labels: np.ndarray, mirror: Mirror | None
) -> tuple[str, float]:
    """Return which views fit the stream: whether a mirrored image would have the same label.

    If so, the odd part of the taps says little about the label.

    Returns:
        The kind of mix, and the multiply-adds that it took to find out.
    """
    if rest.n_taps == 0:
        return "without taps", 0.0
    if mirror is None or not mirror.has_pairs:
        return "plain", 0.0
    classes = np.flatnonzero(rest.counts > 0)
    right = []
    views = solve_views(rest, classes, [(ODD,), (EVEN,)], mirror)
    for view in views:
        products = view.products(vectors_of(view.parts, taps, features, mirror))
        right.append(int((classes[view.lda(products).argmax(axis=1)] == labels).sum()))
    odd, even = right
    return "mirrored" if odd < _MIRRORED_BELOW * even else "plain", _solve_macs(views)


def _solve(moments: Moments, kind: str, mirror: Mirror | None) -> Mix:
    """Solve the classifiers of one kind of mix. Its weights are those of the prior."""
    classes = np.flatnonzero(moments.counts > 0)
    views = solve_views(moments, classes, [parts for parts, _ in _KINDS[kind]], mirror)
    means = unit(moments.unit_sums[classes])
    macs = _solve_macs(views)
    return Mix(
        kind=kind,
        views=tuple(views),
        classes=classes,
        counts=moments.counts[classes],
        class_means=means,
        weights=_prior(kind),
        n_samples=moments.n,
        n_weighted=moments.n,
        fit_macs=macs,
    )


def _solve_macs(views: list[View]) -> float:
    """Return the multiply-adds of solving views: a sixth of the cube of their widths."""
    return float(sum(len(view.centre) ** 3 / 6 for view in views))


def _prior(kind: str) -> np.ndarray:
    """Return the weights of a kind of mix in the absence of held-out samples."""
    n = sum(len(kinds) for _, kinds in _KINDS[kind])
    weights = np.array([1.0] * n + [_MEANS_PRIOR])
    return np.asarray(weights * (_PRIOR_SUM / (n + 1)), dtype=np.float32)
