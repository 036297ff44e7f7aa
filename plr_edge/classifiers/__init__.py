"""Closed-form classifiers over features: NumPy only, classes added at any time.

Each learns from sums over samples, so the order of a stream does not matter to it and it forgets
nothing; `CLASSIFIERS` maps their names to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.lda import StreamingLda
from plr_edge.classifiers.ridge import Ridge

__all__ = ["CLASSIFIERS", "ClassMeans", "Classifier", "Ridge", "StreamingLda"]


class Classifier(Protocol):
    """What answers over features."""

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch: (n, D) float32 features, (n,) integer labels of any value from 0 up."""
        ...

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Score a batch (n, D): (n, K) float32, higher is better, K = highest label seen + 1."""
        ...


CLASSIFIERS: dict[str, Callable[[int], Classifier]] = {
    "class_means": ClassMeans,
    "lda": StreamingLda,
    "ridge": Ridge,
}
