"""Methods over a feature that never moves: the field's simple and strong ones.

Each learns a stream in chunks and answers at any time. NumPy; torch for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks.closed_forms import (
    NaiveBayes,
    NearestMean,
    RandomFeatureRidge,
    TunedLda,
    TunedRidge,
)
from benchmarks.feature_learners import NearestNeighbours, Perceptron, Softmax


class FeatureMethod(Protocol):
    """A classifier that learns from a stream of features."""

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn (n, D) float32 features of (n,) class indices."""
        ...

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return (n, K) scores, the largest for the answer."""
        ...

    @property
    def n_bytes(self) -> int:
        """Bytes kept for learning on."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-adds spent on learning so far."""
        ...


def _naive_softmax(width: int, **tuned: Any) -> Any:
    return Softmax(width, n_rehearsed=0, **{"lr": 0.1, **tuned})


FEATURE_METHODS: dict[str, Callable[..., Any]] = {
    "nearest class mean": NearestMean,
    "streaming LDA": TunedLda,
    "ridge": TunedRidge,
    "random-feature ridge": RandomFeatureRidge,
    "k nearest neighbours": NearestNeighbours,
    "perceptron": Perceptron,
    "naive Bayes": NaiveBayes,
    "naive linear classifier": _naive_softmax,
    "feature replay": Softmax,
}
