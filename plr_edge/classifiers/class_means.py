"""ClassMeans: the nearest class mean by cosine. NumPy only."""

from __future__ import annotations

import numpy as np


class ClassMeans:
    """Answer with the class whose mean lies nearest, by cosine.

    Source: Mensink et al., "Distance-Based Image Classification: Generalizing to New Classes at
    Near-Zero Cost", TPAMI 2013; with features scaled to unit length before they are averaged.
    """

    def __init__(self, width: int) -> None:
        """Start with no class; `width` is D."""
        self.sums = np.zeros((0, width), np.float32)
        self.counts = np.zeros(0, np.int64)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier`."""
        if len(labels) == 0:
            return
        self.sums, self.counts = grown(self.sums, labels), grown(self.counts, labels)
        for label, row in zip(labels, unit(features), strict=True):  # np.add.at is slower
            self.sums[label] += row
            self.counts[label] += 1

    def copy(self) -> ClassMeans:
        """Return one that learns by itself."""
        other = ClassMeans(self.sums.shape[1])
        other.sums, other.counts = self.sums.copy(), self.counts.copy()
        return other

    def adopt_missing(self, other: ClassMeans) -> None:
        """Take over the classes that `other` knows and this one does not."""
        last = np.array([len(other.counts) - 1])
        self.sums, self.counts = grown(self.sums, last), grown(self.counts, last)
        missing = np.flatnonzero(self.counts[: len(other.counts)] == 0)
        self.sums[missing], self.counts[missing] = other.sums[missing], other.counts[missing]

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the cosine to each mean, -1 for a class that was never seen; see `Classifier`."""
        norms = np.sqrt(np.einsum("kd,kd->k", self.sums, self.sums))
        scores = unit(features) @ self.sums.T / np.maximum(norms, 1e-12)  # (n, K)
        scores[:, self.counts == 0] = -1.0
        return np.asarray(scores)


def fit_means(
    features: np.ndarray, labels: np.ndarray, quantile: float
) -> tuple[ClassMeans, float]:
    """Fit class means, and the threshold of `unknown`, to remembered samples.

    Args:
        features: (n, D), adapted.
        labels: (n,) class indices.
        quantile: share of the samples that may fall below the threshold, each compared with the
            mean of the others of its class.

    Returns:
        means, and the cosine to the nearest one below which a frame is unknown.
    """
    means = ClassMeans(features.shape[1])
    means.learn_many(features, labels)
    x = unit(features)
    others = means.sums[labels] - x
    alone = means.counts[labels] < 2
    similarity = (unit(others) * x).sum(axis=1)[~alone]
    return means, float(np.quantile(similarity, quantile)) if len(similarity) else -1.0


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length; zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)


def grown(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return `array` with zero rows appended until every label has one."""
    missing = int(labels.max(initial=-1)) + 1 - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
