"""Ridge: regularised least squares to one-hot targets, updated in blocks. NumPy only."""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import grown

_BLOCK = 256  # rows of the inverse updated together, so that the product stays in cache


class Ridge:
    """Ridge regression to one-hot targets, exact after every batch.

    Between two calls of `refit` the inverse is updated by the Woodbury identity, a batch at a time
    (block recursive least squares), which costs 2 D^2 multiply-adds a sample and no solve.
    Features are standardised with the mean and deviation of the last `refit`; before it with none.
    """

    def __init__(self, width: int, strength: float = 1.0) -> None:
        """Start with no class.

        Args:
            width: D.
            strength: of the regularisation, in units of one standardised sample.
        """
        self.width, self.strength = width, strength
        self.mean = np.zeros(width, np.float32)
        self.scale = np.ones(width, np.float32)
        self._reset()

    def _reset(self) -> None:
        self.inverse = np.zeros((0, 0), np.float32)  # made by learning; answering needs none
        self.weights = np.zeros((0, self.width + 1), np.float32)  # the last column: the constant
        self.counts = np.zeros(0, np.int64)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier`."""
        if len(labels) == 0:
            return
        x = self._standardised(features)
        self.weights, self.counts = grown(self.weights, labels), grown(self.counts, labels)
        np.add.at(self.counts, labels, 1)
        self._make_inverse()
        xp = x @ self.inverse  # (n, D + 1)
        gain = np.linalg.solve(np.eye(len(x), dtype=np.float32) + xp @ x.T, xp)
        errors = self._targets(labels) - x @ self.weights.T  # (n, K)
        self.weights = self.weights + errors.T @ gain
        self._subtract(xp, gain)

    def refit(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Forget all, then fit (n, D) features in one solve, standardised by their own spread."""
        self.mean = features.mean(0).astype(np.float32)
        spread = features.std(0).astype(np.float32)
        self.scale = 1.0 / np.maximum(spread, max(1e-6, 0.05 * float(spread.mean())))
        self._reset()
        x = self._standardised(features)
        self.weights, self.counts = grown(self.weights, labels), grown(self.counts, labels)
        np.add.at(self.counts, labels, 1)
        if len(x) <= self.width:
            kernel = x @ x.T
            kernel[np.diag_indices_from(kernel)] += np.float32(self.strength)
            dual = np.linalg.inv(kernel) @ x  # (n, D + 1)
            self.weights = self._targets(labels).T @ dual
            self._make_inverse()
            self._subtract(x / np.float32(self.strength), dual)
            return
        gram = x.T @ x
        gram[np.diag_indices_from(gram)] += np.float32(self.strength)
        self.inverse = np.linalg.inv(gram)
        self.weights = (self._targets(labels).T @ x) @ self.inverse

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the regression's outputs, -inf for a class never seen; see `Classifier`."""
        scores = self.with_weights(features, self.weights)
        scores[:, self.counts == 0] = -np.inf
        return scores

    def _make_inverse(self) -> None:
        if not len(self.inverse):
            n = self.width + 1
            self.inverse = np.eye(n, dtype=np.float32) / np.float32(self.strength)

    def _subtract(self, left: np.ndarray, right: np.ndarray) -> None:
        """Take left.T @ right off the inverse, block by block."""
        for start in range(0, len(self.inverse), _BLOCK):
            block = slice(start, start + _BLOCK)
            self.inverse[block] -= left[:, block].T @ right

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        return np.eye(len(self.counts), dtype=np.float32)[labels]

    def with_weights(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the outputs (n, K) of given (K, D + 1) weights, such as `weights` gave."""
        return np.asarray(self._standardised(features) @ weights.T)

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        x = (features - self.mean) * self.scale
        return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1, dtype=np.float32)
