"""Ridge: regularised least squares to one-hot targets, right after every batch. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plr_edge.classifiers.class_means import grown
from plr_edge.errors import StateError

_YOUNG_ROWS = 1024  # below, the rows are kept and a small system is solved
_BLOCK = 256  # rows of the inverse updated together, so that the product stays in cache
_LEAST_SPREAD = 0.05  # of the mean spread: values that hardly vary are not blown up


@dataclass(frozen=True)
class Fitted:
    """What answers: never changed, only replaced, so that any thread may answer with it.

    Attributes:
        weights: (K, D + 1) float32, the last column the constant.
        mean: (D,) float32.
        scale: (D,) float32.
        counts: (K,) samples of each class that the weights were fitted to.
    """

    weights: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    counts: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the outputs (n, K) for features (n, D)."""
        return np.asarray(standardised(features, self.mean, self.scale) @ self.weights.T)


class Ridge:
    """Ridge regression to one-hot targets over standardised features.

    A young one keeps its samples: features are standardised by all of them, and the system of the
    smaller side is solved when weights are asked for. From `_YOUNG_ROWS` samples on, the scaling
    stays as it is, the samples are dropped, and the inverse is updated by the Woodbury identity, a
    batch at a time (block recursive least squares): 2 D^2 multiply-adds a sample.
    """

    def __init__(
        self, width: int, strength: float | None = None, young_rows: int = _YOUNG_ROWS
    ) -> None:
        """Start with no class.

        Args:
            width: D.
            strength: of the regularisation, in standardised samples; a third of D by default,
                which is near the best on CIFAR-100 from 1,000 to 10,000 samples.
            young_rows: samples that fix the scaling.
        """
        self.width, self.young_rows = width, young_rows
        self.strength = np.float32(width / 3 if strength is None else strength)
        self.mean: np.ndarray = np.zeros(width, np.float32)
        self.scale = np.ones(width, np.float32)
        self.counts = np.zeros(0, np.int64)
        self._weights: np.ndarray = np.zeros(
            (0, width + 1), np.float32
        )  # the last column: the constant
        self._inverse: np.ndarray = np.zeros(
            (0, 0), np.float32
        )  # (D + 1, D + 1) once no longer young
        self._rows: np.ndarray = np.zeros((0, width), np.float32)
        self._labels: np.ndarray = np.zeros(0, np.int64)
        self._n_fitted = 0
        self.fitted = Fitted(self._weights, self.mean, self.scale, self.counts)

    @property
    def weights(self) -> np.ndarray:
        """(K, D + 1) float32, of every sample learned."""
        self.settle()
        return self._weights

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch; see `Classifier`."""
        if len(labels) == 0:
            return
        self._weights, self.counts = grown(self._weights, labels), grown(self.counts, labels)
        np.add.at(self.counts, labels, 1)
        if len(self._inverse):
            self._update(self._standardised(features), labels)
            self._show()
            return
        self._rows = np.concatenate([self._rows, features], dtype=np.float32)
        self._labels = np.concatenate([self._labels, labels])
        if len(self._labels) >= self.young_rows:
            self._grow_up()

    def settle(self, growth: float = 1.0) -> None:
        """Solve for the samples learned since the last time, if they are `growth` times more."""
        if self._n_fitted < len(self._labels) >= growth * self._n_fitted:
            self._fit()

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return the regression's outputs, -inf for a class never seen; see `Classifier`."""
        self.settle()
        scores = self.fitted.scores(features)
        scores[:, self.counts == 0] = -np.inf
        return scores

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what answering needs."""
        self.settle()
        return {"weights": self._weights, "mean": self.mean, "scale": self.scale,
                "counts": self.counts}  # fmt: skip

    def learning_arrays(self) -> dict[str, np.ndarray]:
        """Return what learning needs besides; of the inverse, which is symmetric, one triangle."""
        inverse = self._inverse[np.triu_indices(len(self._inverse))]
        return {"rows": self._rows, "labels": self._labels, "inverse": inverse}

    def restore(
        self, arrays: Mapping[str, np.ndarray], learning: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Go on from what `to_arrays` gave; with what `learning_arrays` gave it can learn too.

        Raises:
            StateError: the arrays do not fit this width.
        """
        if arrays["weights"].shape[1:] != (self.width + 1,):
            raise StateError(
                f"the ridge classifier has weights {arrays['weights'].shape}; this bundle needs "
                f"{self.width + 1} columns; restore a copy, or choose another --state"
            )
        self._weights, self.mean = arrays["weights"], arrays["mean"]
        self.scale = arrays["scale"]
        self.counts = arrays["counts"]
        self._show()
        if learning is None:
            return
        self._rows, self._labels = learning["rows"], learning["labels"]
        self._n_fitted = len(self._labels)
        n = self.width + 1 if len(learning["inverse"]) else 0
        upper = np.triu_indices(n)
        self._inverse = np.zeros((n, n), np.float32)
        self._inverse[upper] = self._inverse.T[upper] = learning["inverse"]

    def _fit(self) -> None:
        """Solve for the weights from the rows: the system of samples or of values, if smaller."""
        self.mean = self._rows.mean(0)
        spread = self._rows.std(0)
        self.scale = 1.0 / np.maximum(spread, max(1e-6, _LEAST_SPREAD * float(spread.mean())))
        x, targets = self._standardised(self._rows), self._targets(self._labels)
        if len(x) <= self.width:
            self._weights = np.linalg.solve(self._regularised(x @ x.T), targets).T @ x
        else:
            self._weights = np.linalg.solve(self._regularised(x.T @ x), x.T @ targets).T
        self._n_fitted = len(x)
        self._show()

    def _grow_up(self) -> None:
        """Turn the rows into the inverse of their regularised Gram matrix, and drop them."""
        self._fit()
        x = self._standardised(self._rows)
        if len(x) <= self.width:
            self._inverse = np.eye(self.width + 1, dtype=np.float32) / self.strength
            self._subtract(x / self.strength, np.linalg.solve(self._regularised(x @ x.T), x))
        else:
            self._inverse = np.linalg.inv(self._regularised(x.T @ x))
        self._rows, self._labels = self._rows[:0], self._labels[:0]
        self._n_fitted = 0

    def _show(self) -> None:
        self.fitted = Fitted(self._weights, self.mean, self.scale, self.counts.copy())

    def _regularised(self, product: np.ndarray) -> np.ndarray:
        """Add the strength to the diagonal; in place."""
        product[np.diag_indices_from(product)] += self.strength
        return product

    def _update(self, x: np.ndarray, labels: np.ndarray) -> None:
        xp = x @ self._inverse  # (n, D + 1)
        gain = np.linalg.solve(np.eye(len(x), dtype=np.float32) + xp @ x.T, xp)
        errors = self._targets(labels) - x @ self._weights.T  # (n, K)
        self._weights = self._weights + errors.T @ gain
        self._subtract(xp, gain)

    def _subtract(self, left: np.ndarray, right: np.ndarray) -> None:
        """Take left.T @ right off the inverse, block by block."""
        for start in range(0, len(self._inverse), _BLOCK):
            block = slice(start, start + _BLOCK)
            self._inverse[block] -= left[:, block].T @ right

    def _targets(self, labels: np.ndarray) -> np.ndarray:
        return np.eye(len(self.counts), dtype=np.float32)[labels]

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        return standardised(features, self.mean, self.scale)


def standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Shift and scale features (n, D), and append a one: (n, D + 1) float32."""
    x = (features - mean) * scale
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1, dtype=np.float32)
