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

    @property
    def sums(self) -> np.ndarray:
        """(K, D) float32, the sum of each class's features at unit length; do not write."""
        return self._sums

    @sums.setter
    def sums(self, sums: np.ndarray) -> None:
        self._sums = sums
        self._norms = _norms(sums)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier`."""
        if len(labels) == 0:
            return
        self._grow(labels)
        for label, row in zip(labels, unit(features), strict=True):  # np.add.at is slower
            self._sums[label] += row
            self.counts[label] += 1
        learned = np.unique(labels)
        self._norms[learned] = _norms(self._sums[learned])

    def copy(self) -> ClassMeans:
        """Return one that learns by itself."""
        other = ClassMeans(self.sums.shape[1])
        other.sums, other.counts = self.sums.copy(), self.counts.copy()
        return other

    def adopt_missing(self, other: ClassMeans) -> None:
        """Take over the classes that `other` knows and this one does not."""
        self._grow(np.array([len(other.counts) - 1]))
        missing = np.flatnonzero(self.counts[: len(other.counts)] == 0)
        self._sums[missing], self.counts[missing] = other.sums[missing], other.counts[missing]
        self._norms[missing] = other._norms[missing]

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the cosine to each mean, -1 for a class that was never seen; see `Classifier`."""
        return self._cosines(unit(features) @ self._sums.T)

    def _cosines(self, products: np.ndarray) -> np.ndarray:
        scores = products / np.maximum(self._norms, 1e-12)  # (n, K)
        scores[:, self.counts == 0] = -1.0
        return np.asarray(scores)

    def _grow(self, labels: np.ndarray) -> None:
        self._sums, self.counts = grown(self._sums, labels), grown(self.counts, labels)
        self._norms = grown(self._norms, labels)


class SequentialScorer:
    """Compare the samples of a batch with the means, learning each before the next.

    The same as `scores_many` and `learn_many` in turns, by two products for the whole batch: what
    one sample adds to a mean changes the products of the others by their product with it.
    """

    def __init__(self, means: ClassMeans, features: np.ndarray) -> None:
        """Start before the first of the features (n, D)."""
        self._means, self._features = means, features
        x = unit(features)
        self._products = x @ means.sums.T  # (n, K)
        self._between = x @ x.T  # (n, n)

    def scores(self, i: int) -> np.ndarray:
        """Return the cosines (K,) of sample `i` to the means as they are now."""
        return self._means._cosines(self._products[i : i + 1])[0]

    def learn(self, i: int, label: int) -> None:
        """Learn sample `i`."""
        self._means.learn_many(self._features[i : i + 1], np.array([label]))
        if missing := len(self._means.counts) - self._products.shape[1]:
            self._products = np.pad(self._products, ((0, 0), (0, missing)))
        self._products[:, label] += self._between[:, i]


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


def _norms(rows: np.ndarray) -> np.ndarray:
    """Return the length of each row, to the bit whatever rows stand beside it."""
    return np.asarray(np.sqrt(np.add.reduce(rows * rows, axis=1)))


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
