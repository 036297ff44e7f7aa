"""StreamingLda: linear discriminant analysis with a running shared covariance. NumPy only."""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import pad_classes


class StreamingLda:
    """Linear discriminant analysis from running sums.

    The within-class covariance is exact at every moment, because the total scatter and the class
    sums are kept.

    Source: Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
    Analysis", CVPRW 2020, equations 1 to 4.
    """

    def __init__(self, width: int, shrinkage: float = 0.01) -> None:
        """Start without classes.

        Args:
            width: D, the length of a feature vector.
            shrinkage: weight of a scaled identity matrix mixed into the covariance, 0..1.
        """
        self.shrinkage = shrinkage
        self.sums = np.zeros((0, width), np.float64)
        self.counts = np.zeros(0, np.int64)
        self.scatter = np.zeros((width, width), np.float64)
        self._fitted: tuple[float, np.ndarray, np.ndarray] | None = None

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier.learn_many`."""
        if len(labels) == 0:
            return
        x = features.astype(np.float64)
        self.sums, self.counts = pad_classes(self.sums, labels), pad_classes(self.counts, labels)
        np.add.at(self.sums, labels, x)
        np.add.at(self.counts, labels, 1)
        self.scatter += x.T @ x
        self._fitted = None

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the discriminants; see `Classifier.scores_many`.

        A class without samples scores -inf.
        """
        weights, bias = self._fit()
        scores = features.astype(np.float64) @ weights + bias  # (n, K)
        scores[:, self.counts == 0] = -np.inf
        return np.asarray(scores, dtype=np.float32)

    def _fit(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (D, K) and bias (K,), from the cache if nothing changed."""
        if self._fitted is None or self._fitted[0] != self.shrinkage:
            n = int(self.counts.sum())
            means = self.sums / np.maximum(self.counts, 1)[:, None]  # (K, D)
            within = (self.scatter - means.T @ (means * self.counts[:, None])) / max(n, 1)  # (D, D)
            scale = max(float(np.trace(within)) / len(within), 1e-12)
            mixed = (1 - self.shrinkage) * within + self.shrinkage * scale * np.eye(len(within))
            weights = np.linalg.solve(mixed, means.T)  # (D, K)
            bias = -0.5 * np.einsum("kd,dk->k", means, weights)  # (K,)
            self._fitted = self.shrinkage, weights, bias
        return self._fitted[1:]
