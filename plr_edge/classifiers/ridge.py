"""Ridge: regularised least squares to one-hot targets, exact after every batch. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plr_edge.classifiers.class_means import pad_classes
from plr_edge.errors import StateError

_RECURSIVE_AFTER = 1024  # samples that are stored before switching to recursive updates
_BLOCK = 256  # rows of the inverse updated together, so that the product stays in the CPU cache
_MIN_SPREAD = 0.05  # share of the mean spread; keeps near-constant features from being blown up


@dataclass(frozen=True)
class RidgeModel:
    """A fitted ridge classifier. Immutable, so any thread may use it while training goes on.

    Attributes:
        weights: (K, D + 1) float32; the last column is the constant.
        mean: (D,) float32, subtracted from a feature vector.
        scale: (D,) float32, multiplied with the result.
        counts: (K,) int64, samples of each class that the weights were fitted to.
    """

    weights: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    counts: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the regression outputs (n, K) for features (n, D)."""
        return np.asarray(standardised(features, self.mean, self.scale) @ self.weights.T)


class Ridge:
    """Ridge regression to one-hot targets over standardised features.

    The first `recursive_after` samples are stored. They determine the standardisation, and the
    smaller of the two normal equations (over samples or over features) is solved on demand. After
    that the standardisation is fixed, the samples are dropped, and each batch updates the inverse
    Gram matrix by the Woodbury identity (block recursive least squares), which costs 2 D^2
    multiply-adds per sample.

    Example:
        >>> ridge = Ridge(width=2, strength=0.1)
        >>> ridge.learn_many(np.float32([[0, 1], [1, 0], [0, 2]]), np.array([0, 1, 0]))
        >>> ridge.scores_many(np.float32([[0, 3], [2, 0]])).argmax(axis=1).tolist()
        [0, 1]
    """

    def __init__(
        self, width: int, strength: float | None = None, recursive_after: int = _RECURSIVE_AFTER
    ) -> None:
        """Start without classes.

        Args:
            width: D, the length of a feature vector.
            strength: regularisation, in units of standardised samples. The default is D / 3, which
                is near the best on CIFAR-100 from 1,000 to 10,000 samples.
            recursive_after: number of stored samples after which updates become recursive.
        """
        self.width, self.recursive_after = width, recursive_after
        self.strength = np.float32(width / 3 if strength is None else strength)
        self.mean: np.ndarray = np.zeros(width, np.float32)
        self.scale = np.ones(width, np.float32)
        self.counts: np.ndarray = np.zeros(0, np.int64)
        self._weights: np.ndarray = np.zeros((0, width + 1), np.float32)
        self._inverse: np.ndarray = np.zeros((0, 0), np.float32)  # (D + 1, D + 1) if recursive
        self._rows: np.ndarray = np.zeros((0, width), np.float32)  # stored samples
        self._labels: np.ndarray = np.zeros(0, np.int64)
        self._n_solved = 0  # stored samples that the weights account for
        self.fitted = RidgeModel(self._weights, self.mean, self.scale, self.counts)

    @property
    def weights(self) -> np.ndarray:
        """(K, D + 1) float32, fitted to every sample learned so far."""
        self.solve()
        return self._weights

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier.learn_many`."""
        if len(labels) == 0:
            return
        self._weights = pad_classes(self._weights, labels)
        self.counts = pad_classes(self.counts, labels)
        np.add.at(self.counts, labels, 1)
        if len(self._inverse):
            self._update(self._standardised(features), labels)
            self._refresh_model()
            return
        self._rows = np.concatenate([self._rows, features], dtype=np.float32)
        self._labels = np.concatenate([self._labels, labels])
        if len(self._labels) >= self.recursive_after:
            self._switch_to_recursive()

    def solve(self, growth: float = 1.0) -> None:
        """Refit the weights if samples were stored since the last fit.

        Args:
            growth: refit only if there are at least this many times as many stored samples.
        """
        if self._n_solved < len(self._labels) >= growth * self._n_solved:
            self._fit()

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the regression outputs; see `Classifier.scores_many`.

        A class without samples scores -inf.
        """
        self.solve()
        scores = self.fitted.scores(features)
        scores[:, self.counts == 0] = -np.inf
        return scores

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that scoring needs."""
        self.solve()
        return {"weights": self._weights, "mean": self.mean, "scale": self.scale,
                "counts": self.counts}  # fmt: skip

    def learning_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that further learning needs in addition to `to_arrays`.

        The inverse is symmetric, so only its upper triangle is returned.
        """
        inverse = self._inverse[np.triu_indices(len(self._inverse))]
        return {"rows": self._rows, "labels": self._labels, "inverse": inverse}

    def restore(
        self, arrays: Mapping[str, np.ndarray], learning: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Restore a saved classifier.

        Args:
            arrays: the result of `to_arrays`.
            learning: the result of `learning_arrays`. Without it the classifier can only score.

        Raises:
            StateError: the arrays do not fit this width.
        """
        if arrays["weights"].shape[1:] != (self.width + 1,):
            raise StateError(
                f"the ridge classifier has weights of shape {arrays['weights'].shape}; this bundle "
                f"needs {self.width + 1} columns; restore a copy, or choose another --state"
            )
        self._weights, self.mean = arrays["weights"], arrays["mean"]
        self.scale = arrays["scale"]
        self.counts = arrays["counts"]
        self._refresh_model()
        if learning is None:
            return
        self._rows, self._labels = learning["rows"], learning["labels"]
        self._n_solved = len(self._labels)
        n = self.width + 1 if len(learning["inverse"]) else 0
        upper = np.triu_indices(n)
        self._inverse = np.zeros((n, n), np.float32)
        self._inverse[upper] = self._inverse.T[upper] = learning["inverse"]

    def take_over(
        self, counts: np.ndarray, mean: np.ndarray, class_means: np.ndarray, covariance: np.ndarray
    ) -> None:
        """Continue from statistics of all samples, recursively; stored samples are dropped.

        Args:
            counts: (K,) int64 samples by class.
            mean: (D,) mean of all samples.
            class_means: (K, D) class means less the mean of all.
            covariance: (D, D) of all samples.
        """
        n, spread = int(counts.sum()), np.sqrt(np.maximum(covariance.diagonal(), 0))
        self.counts, self.mean = np.array(counts), mean.astype(np.float32)
        least = max(1e-6, _MIN_SPREAD * float(spread.mean()))
        self.scale = (1.0 / np.maximum(spread, least)).astype(np.float32)
        gram = np.zeros((self.width + 1, self.width + 1), np.float32)
        gram[:-1, :-1] = n * self.scale[:, None] * covariance * self.scale
        gram[-1, -1] = n
        self._inverse = np.linalg.inv(self._regularised(gram))
        sums = np.concatenate([class_means * self.scale, np.ones((len(counts), 1))], axis=1)
        self._weights = (counts[:, None] * sums).astype(np.float32) @ self._inverse
        self._rows, self._labels = self._rows[:0], self._labels[:0]
        self._n_solved = 0
        self._refresh_model()

    def _fit(self) -> None:
        """Standardise the stored samples and solve the smaller of the two normal equations."""
        self.mean = self._rows.mean(0)
        spread = self._rows.std(0)
        self.scale = 1.0 / np.maximum(spread, max(1e-6, _MIN_SPREAD * float(spread.mean())))
        x, targets = self._standardised(self._rows), self._targets(self._labels)
        if len(x) <= self.width:
            self._weights = np.linalg.solve(self._regularised(x @ x.T), targets).T @ x
        else:
            self._weights = np.linalg.solve(self._regularised(x.T @ x), x.T @ targets).T
        self._n_solved = len(x)
        self._refresh_model()

    def _switch_to_recursive(self) -> None:
        """Replace the stored samples by the inverse of their regularised Gram matrix."""
        self._fit()
        x = self._standardised(self._rows)  # (n, D + 1)
        if len(x) <= self.width:
            self._inverse = np.eye(self.width + 1, dtype=np.float32) / self.strength
            self._subtract(x / self.strength, np.linalg.solve(self._regularised(x @ x.T), x))
        else:
            self._inverse = np.linalg.inv(self._regularised(x.T @ x))
        self._rows, self._labels = self._rows[:0], self._labels[:0]
        self._n_solved = 0

    def _refresh_model(self) -> None:
        self.fitted = RidgeModel(self._weights, self.mean, self.scale, self.counts.copy())

    def _regularised(self, product: np.ndarray) -> np.ndarray:
        """Add the regularisation to the diagonal of `product`, in place."""
        product[np.diag_indices_from(product)] += self.strength
        return product

    def _update(self, x: np.ndarray, labels: np.ndarray) -> None:
        """Update weights and inverse with standardised samples x (n, D + 1)."""
        xp = x @ self._inverse  # (n, D + 1)
        gain = np.linalg.solve(np.eye(len(x), dtype=np.float32) + xp @ x.T, xp)  # (n, D + 1)
        errors = self._targets(labels) - x @ self._weights.T  # (n, K)
        self._weights = self._weights + errors.T @ gain
        self._subtract(xp, gain)

    def _subtract(self, left: np.ndarray, right: np.ndarray) -> None:
        """Subtract left.T @ right from the inverse, block by block."""
        for start in range(0, len(self._inverse), _BLOCK):
            block = slice(start, start + _BLOCK)
            self._inverse[block] -= left[:, block].T @ right

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        """Return one-hot targets (n, K) float32."""
        return np.eye(len(self.counts), dtype=np.float32)[labels]

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        return standardised(features, self.mean, self.scale)


def standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Shift and scale features (n, D) and append a column of ones: (n, D + 1) float32."""
    x = (features - mean) * scale
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1, dtype=np.float32)
