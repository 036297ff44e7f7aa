"""Judging: a candidate beside what answers now, before the canary gate. Any thread may do it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.engines import Engine
from plr_edge.runtime.publish_gate import Verdict, judge

_DIVERGED = 1e6  # a weight; those of trained networks stay below a hundred
_BATCH = 8  # canaries: 5 ms of MobileNetV2's adaptive part


@dataclass(frozen=True)
class Candidate:
    """What training offers to answer with.

    Attributes:
        weights: of the adaptive part by name; None where nothing was trained yet.
        rehearsed: (K, D) float32, rows of the cosine classifier.
        means: class means of the latent memory, by these weights.
        unknown_below: the cosine to them below which a frame is unknown.
    """

    weights: Mapping[str, np.ndarray] | None
    rehearsed: np.ndarray
    means: ClassMeans
    unknown_below: float

    @property
    def sound(self) -> bool:
        """Whether no value shows that training diverged."""
        return sound([*(self.weights or {}).values(), self.rehearsed, self.means.sums])


@dataclass(frozen=True)
class Incumbent:
    """What a candidate is held against: what answers at one instant, and the canaries then.

    Attributes:
        classifier: a copy that later labels do not change.
        engine: that answers.
        latents: (n, *latent shape) float32, held out.
        taps: (n, T) float32.
        labels: (n,) int64 class indices.
    """

    classifier: CombinedClassifier
    engine: Engine
    latents: np.ndarray
    taps: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Judged:
    """A candidate after the gate, ready to be swapped in."""

    candidate: Candidate
    engine: Engine | None
    verdict: Verdict


def sound(arrays: Iterable[np.ndarray]) -> bool:
    """Say whether every value is finite, and none so large that training must have diverged."""
    return all(np.abs(array).max(initial=0.0) < _DIVERGED for array in arrays)


def judged(
    candidate: Candidate,
    exam: Incumbent,
    build: Callable[[Mapping[str, np.ndarray], Callable[[], None]], Engine],
    share: Callable[[], float],
) -> Judged:
    """Let the canaries judge a candidate.

    Args:
        candidate: what training offers.
        exam: what it is held against.
        build: makes an engine of weights, and calls its second argument now and then.
        share: of the time that this may take, 0..1; it rests in between.
    """
    new, engine = copy.copy(exam.classifier), exam.engine
    new.replace_means(candidate.means, candidate.unknown_below)
    if candidate.weights is not None:
        new.rehearsed = candidate.rehearsed
        rest = _Rests(share)
        engine = build(candidate.weights, rest)
        rest()
    before = _answers(exam.classifier, exam.engine, exam, share)
    verdict = judge(exam.labels, before, _answers(new, engine, exam, share))
    return Judged(candidate, engine if candidate.weights is not None else None, verdict)


def _answers(
    classifier: CombinedClassifier, engine: Engine, exam: Incumbent, share: Callable[[], float]
) -> np.ndarray:
    """Return the class index (n,) that is answered to each canary, a slice at a time."""
    answers, rest = [np.zeros(0, np.int64)], _Rests(share)
    for i in range(0, len(exam.labels), _BATCH):
        rows = slice(i, i + _BATCH)
        features = engine.run(exam.latents[rows])[0]
        answers.append(classifier.answer_many(exam.taps[rows], features)[0].argmax(1))
        rest()
    return np.concatenate(answers)


class _Rests:
    """Sleeps so long that this thread runs for no more than its share of the time."""

    def __init__(self, share: Callable[[], float]) -> None:
        self._share, self._since = share, time.thread_time()

    def __call__(self) -> None:
        time.sleep((time.thread_time() - self._since) * (1 / self._share() - 1))
        self._since = time.thread_time()
