"""Validation: a candidate is evaluated beside the current version. Any thread may do it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.mix_weights import fit_extra_weight
from plr_edge.engines import Engine
from plr_edge.runtime.publish_gate import Verdict, decide

_MAX_VALUE = 1e6  # of a weight; those of trained networks stay below a hundred
_MIN_HELD = 8  # held-out labels that can tell what rehearsal is worth
_BATCH = 8  # held-out latents at once: 5 ms of MobileNetV2's adaptive part


@dataclass(frozen=True)
class Candidate:
    """What training offers to answer with.

    Attributes:
        weights: weights of the adaptive part by name. None if nothing was trained yet.
        rehearsed: (K, D) float32 weight of the cosine classifier.
        means: class means of the latent memory, computed with these weights.
        unknown_below: cosine similarity to the nearest mean below which a frame is unknown.
        has_moved: whether the weights are others than those of the bundle.
    """

    weights: Mapping[str, np.ndarray] | None
    rehearsed: np.ndarray
    means: ClassMeans
    unknown_below: float
    has_moved: bool

    @property
    def diverged(self) -> bool:
        """Whether a value shows that training diverged."""
        return has_diverged([*(self.weights or {}).values(), self.rehearsed, self.means.sums])


@dataclass(frozen=True)
class Incumbent:
    """What a candidate is compared with: what answers at one instant, and the hold-out set then.

    Attributes:
        classifier: a copy that later labels do not change.
        engine: the adaptive part.
        exported_engine: returns the adaptive part with the weights of the bundle.
        has_moved: whether the weights in use are others than those.
        latents: (n, *latent shape) float32 held-out latents.
        taps: (n, T) float32.
        labels: (n,) int64 class indices.
    """

    classifier: CombinedClassifier
    engine: Engine
    exported_engine: Callable[[], Engine]
    has_moved: bool
    latents: np.ndarray
    taps: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """A candidate after the publish gate.

    Attributes:
        candidate: what was evaluated.
        engine: the adaptive part with its weights. None if it has none.
        verdict: whether it may answer.
        beside_rehearsed: factor of the mix, and weight of the rehearsed classifier beside it.
    """

    candidate: Candidate
    engine: Engine | None
    verdict: Verdict
    beside_rehearsed: tuple[float, float]


def evaluate(
    candidate: Candidate,
    incumbent: Incumbent,
    build_engine: Callable[[Mapping[str, np.ndarray], Callable[[], None]], Engine],
    share: Callable[[], float],
) -> Evaluation:
    """Evaluate a candidate on the hold-out set.

    Args:
        candidate: what training offers.
        incumbent: what it is compared with.
        build_engine: builds an engine from weights, and calls its second argument now and then.
        share: returns the share of the time that this may take, 0..1. It sleeps in between.
    """
    new, engine = copy.copy(incumbent.classifier), incumbent.engine
    new.replace_means(candidate.means, candidate.unknown_below)
    if candidate.weights is not None:
        new.rehearsed = candidate.rehearsed
        rest = _Rest(share)
        engine = build_engine(candidate.weights, rest)
        rest()
    moved = incumbent.has_moved if candidate.weights is None else candidate.has_moved
    before = _features(incumbent, incumbent.engine, share)
    after = before if engine is incumbent.engine else _features(incumbent, engine, share)
    exported = None
    if moved or incumbent.has_moved:
        exported = _features(incumbent, incumbent.exported_engine(), share)
    old = incumbent.classifier.answer_many(
        incumbent.taps, before, None, exported if incumbent.has_moved else None
    )
    if candidate.weights is not None:
        new.beside_rehearsed = _beside_rehearsed(new, incumbent, after, exported if moved else None)
    answers = new.answer_many(incumbent.taps, after, None, exported if moved else None)
    verdict = decide(incumbent.labels, old.probabilities.argmax(1), answers.probabilities.argmax(1))
    return Evaluation(
        candidate,
        engine if candidate.weights is not None else None,
        verdict,
        new.beside_rehearsed,
    )


def has_diverged(arrays: Iterable[np.ndarray]) -> bool:
    """Return whether a value is not finite, or so large that training must have diverged."""
    return not all(np.abs(array).max(initial=0.0) < _MAX_VALUE for array in arrays)


def _features(incumbent: Incumbent, engine: Engine, share: Callable[[], float]) -> np.ndarray:
    """Return the feature (n, D) of each held-out latent, a few at a time."""
    features, rest = [np.zeros((0, incumbent.classifier.feature_width), np.float32)], _Rest(share)
    for i in range(0, len(incumbent.labels), _BATCH):
        features.append(engine.run(incumbent.latents[i : i + _BATCH])[0])
        rest()
    return np.concatenate(features)


def _beside_rehearsed(
    classifier: CombinedClassifier,
    incumbent: Incumbent,
    features: np.ndarray,
    exported: np.ndarray | None,
) -> tuple[float, float]:
    """Fit the weight of the rehearsed classifier beside the mix, which have not learned these.

    The closed forms alone answer where rehearsal adds nothing.
    """
    mix = classifier.mix
    if mix is None:
        return 1.0, 0.0
    rows = np.flatnonzero(np.isin(incumbent.labels, mix.classes))
    if len(rows) < _MIN_HELD:
        return 1.0, 0.0
    exported = features if exported is None else exported
    logits, scores = classifier.mix_and_rehearsed(
        incumbent.taps[rows], features[rows], exported[rows]
    )
    return fit_extra_weight(logits, scores, np.searchsorted(mix.classes, incumbent.labels[rows]))


class _Rest:
    """Sleeps for so long that this thread uses no more than its share of the time."""

    def __init__(self, share: Callable[[], float]) -> None:
        self._share, self._since = share, time.thread_time()

    def __call__(self) -> None:
        time.sleep((time.thread_time() - self._since) * (1 / self._share() - 1))
        self._since = time.thread_time()
