"""Closed-form classifiers over feature vectors. NumPy only; new classes can arrive at any time.

Each classifier learns from sums over samples, so the order of the samples does not matter and
nothing is forgotten. `CLASSIFIERS` maps names to classifiers; add a new one there.
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
    """A classifier over feature vectors that learns batch by batch."""

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch.

        Args:
            features: (n, D) float32.
            labels: (n,) integer class indices, 0 or higher. Unseen indices add classes.
        """
        ...

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Score a batch.

        Args:
            features: (n, D) float32.

        Returns:
            (n, K) float32, where K is the highest label seen plus one. Higher is better.
        """
        ...


CLASSIFIERS: dict[str, Callable[[int], Classifier]] = {
    "class_means": ClassMeans,
    "lda": StreamingLda,
    "ridge": Ridge,
}
