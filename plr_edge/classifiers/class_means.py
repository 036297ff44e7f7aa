"""ClassMeans: the nearest class mean by cosine similarity. NumPy only."""

from __future__ import annotations

import numpy as np


class ClassMeans:
    """Classify by the nearest class mean, measured by cosine similarity.

    Source: Mensink et al., "Distance-Based Image Classification: Generalizing to New Classes at
    Near-Zero Cost", TPAMI 2013. Unlike there, features are scaled to unit length before averaging.

    Example:
        >>> means = ClassMeans(width=2)
        >>> means.learn_many(np.float32([[1, 0], [0, 2]]), np.array([0, 1]))
        >>> means.scores_many(np.float32([[3, 0]])).tolist()
        [[1.0, 0.0]]
    """

    def __init__(self, width: int) -> None:
        """Start without classes.

        Args:
            width: D, the length of a feature vector.
        """
        self.sums = np.zeros((0, width), np.float32)
        self.counts: np.ndarray = np.zeros(0, np.int64)

    @property
    def sums(self) -> np.ndarray:
        """(K, D) float32, sum of each class's unit-length features. Do not modify it."""
        return self._sums

    @sums.setter
    def sums(self, sums: np.ndarray) -> None:
        self._sums = sums
        self._norms = _norms(sums)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier.learn_many`."""
        if len(labels) == 0:
            return
        self._pad_to(labels)
        for label, row in zip(labels, unit(features), strict=True):  # np.add.at is slower
            self._sums[label] += row
            self.counts[label] += 1
        learned = np.unique(labels)
        self._norms[learned] = _norms(self._sums[learned])

    def copy(self) -> ClassMeans:
        """Return an independent copy."""
        other = ClassMeans(self.sums.shape[1])
        other.sums, other.counts = self.sums.copy(), self.counts.copy()
        return other

    def copy_missing(self, other: ClassMeans) -> None:
        """Copy the classes that have samples in `other` but none here."""
        self._pad_to(np.array([len(other.counts) - 1]))
        missing = np.flatnonzero(self.counts[: len(other.counts)] == 0)
        self._sums[missing], self.counts[missing] = other.sums[missing], other.counts[missing]
        self._norms[missing] = other._norms[missing]

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the cosine similarity to each mean; see `Classifier.scores_many`.

        A class without samples scores -1.
        """
        return self._cosines(unit(features) @ self._sums.T)

    def _cosines(self, products: np.ndarray) -> np.ndarray:
        scores = products / np.maximum(self._norms, 1e-12)  # (n, K)
        scores[:, self.counts == 0] = -1.0
        return np.asarray(scores)

    def _pad_to(self, labels: np.ndarray) -> None:
        self._sums, self.counts = pad_classes(self._sums, labels), pad_classes(self.counts, labels)
        self._norms = pad_classes(self._norms, labels)


class SequentialScorer:
    """Score the samples of a batch in order, learning each one before scoring the next.

    Gives the same results as alternating `ClassMeans.scores_many` and `ClassMeans.learn_many`, but
    needs only two matrix products per batch: adding sample i to a mean changes the product of
    sample j with that mean by the product of i and j.
    """

    def __init__(self, means: ClassMeans, features: np.ndarray) -> None:
        """Prepare a batch; nothing is learned yet.

        Args:
            means: class means to score against. `learn` updates them.
            features: (n, D) float32.
        """
        self._means, self._features = means, features
        x = unit(features)
        self._products = x @ means.sums.T  # (n, K)
        self._between = x @ x.T  # (n, n)

    def scores(self, i: int) -> np.ndarray:
        """Return the cosine similarities (K,) of sample `i` to the current means."""
        return self._means._cosines(self._products[i : i + 1])[0]

    def learn(self, i: int, label: int) -> None:
        """Add sample `i` to the mean of class `label`."""
        self._means.learn_many(self._features[i : i + 1], np.array([label]))
        if missing := len(self._means.counts) - self._products.shape[1]:
            self._products = np.pad(self._products, ((0, 0), (0, missing)))
        self._products[:, label] += self._between[:, i]


def _norms(rows: np.ndarray) -> np.ndarray:
    """Return the length of each row (n, D), shape (n,); bitwise independent of the other rows."""
    return np.asarray(np.sqrt(np.add.reduce(rows * rows, axis=1)))


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows (n, D) to unit length, as float32. Zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)


def pad_classes(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Append zero rows to `array` until it has a row for every label."""
    missing = int(labels.max(initial=-1)) + 1 - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
