"""Candidates: what training offers to answer with, and what the canary says to it. NumPy only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.engines import Engine
from plr_edge.gate import Verdict

_BATCH = 16


@dataclass(frozen=True)
class Candidate:
    """What training offers.

    Attributes:
        weights: of the adaptive part by name; None where nothing was trained yet.
        rehearsed: (K, D) float32, rows of the cosine classifier.
        features: (n, D) float32 of the latent memory, by these weights.
        labels: (n,) int64 class indices of the latent memory.
    """

    weights: Mapping[str, np.ndarray] | None
    rehearsed: np.ndarray
    features: np.ndarray
    labels: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether every value is a number."""
        arrays = [*(self.weights or {}).values(), self.rehearsed, self.features]
        return all(np.isfinite(array).all() for array in arrays)


@dataclass(frozen=True)
class Judged:
    """A candidate after the gate, ready to be swapped in."""

    candidate: Candidate
    classifier: CombinedClassifier
    engine: Engine | None
    verdict: Verdict


def answers(
    classifier: CombinedClassifier,
    engine: Engine,
    latents: np.ndarray,
    taps: np.ndarray,
    share: float = 1.0,
) -> np.ndarray:
    """Return the class index (n,) that is answered to latents (n, ...) with taps (n, T).

    Args:
        classifier: over features and taps.
        engine: of the adaptive part.
        latents: float32.
        taps: float32.
        share: of the time that this may take; it sleeps for the rest.
    """
    if not len(latents):
        return np.zeros(0, np.int64)
    features = []
    for i in range(0, len(latents), _BATCH):
        start = time.thread_time()
        features.append(engine.run(latents[i : i + _BATCH])[0])
        time.sleep((time.thread_time() - start) * (1 / share - 1))
    return classifier.answer_many(taps, np.concatenate(features))[0].argmax(1)
