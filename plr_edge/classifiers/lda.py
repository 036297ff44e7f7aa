"""StreamingLda: linear discriminant with a running shared covariance. NumPy only."""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import grown


class StreamingLda:
    """Linear discriminant analysis from running sums.

    Source: Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
    Analysis", CVPRW 2020, equations 1 to 4. The covariance is that within classes; it is exact
    at any moment, because it is kept as the total scatter and the class sums.
    """

    def __init__(self, width: int, shrinkage: float = 0.01) -> None:
        """Start with no class.

        Args:
            width: D.
            shrinkage: share of a scaled identity mixed into the covariance; more is mixed in
                while samples are fewer than dimensions.
        """
        self.shrinkage = shrinkage
        self.sums = np.zeros((0, width), np.float64)
        self.counts = np.zeros(0, np.int64)
        self.scatter = np.zeros((width, width), np.float64)
        self._fitted: tuple[float, np.ndarray, np.ndarray] | None = None

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier`."""
        if len(labels) == 0:
            return
        x = features.astype(np.float64)
        self.sums, self.counts = grown(self.sums, labels), grown(self.counts, labels)
        np.add.at(self.sums, labels, x)
        np.add.at(self.counts, labels, 1)
        self.scatter += x.T @ x
        self._fitted = None

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the discriminants, -inf for a class that was never seen; see `Classifier`."""
        weights, bias = self._fit()
        scores = features.astype(np.float64) @ weights + bias
        scores[:, self.counts == 0] = -np.inf
        return np.asarray(scores, dtype=np.float32)

    def _fit(self) -> tuple[np.ndarray, np.ndarray]:
        if self._fitted is None or self._fitted[0] != self.shrinkage:
            n = int(self.counts.sum())
            means = self.sums / np.maximum(self.counts, 1)[:, None]
            within = (self.scatter - means.T @ (means * self.counts[:, None])) / max(n, 1)
            scale = max(float(np.trace(within)) / len(within), 1e-12)
            mixed = (1 - self.shrinkage) * within + self.shrinkage * scale * np.eye(len(within))
            weights = np.linalg.solve(mixed, means.T)  # (D, K)
            bias = -0.5 * np.einsum("kd,dk->k", means, weights)
            self._fitted = self.shrinkage, weights, bias
        return self._fitted[1:]
