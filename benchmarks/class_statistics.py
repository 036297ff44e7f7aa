"""Sums from which class means, LDA, ridge and a Gaussian generator follow, and that add up.

What one robot sends another: the statistics of both are those of one robot that saw both streams.
NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST_SPREAD = 0.05  # of the mean spread, as in `Ridge`
_SHRINKAGE = 0.3  # of the covariances
_SENT = np.float16


@dataclass
class Statistics:
    """Counts, sums and second moments of vectors of D values in K classes.

    Attributes:
        counts: (K,) int64 samples.
        sums: (K, D) float64.
        gram: (D, D) float64, X'X over all classes.
    """

    counts: np.ndarray
    sums: np.ndarray
    gram: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, n_classes: int) -> Statistics:
        """Sum up samples (n, D) of classes (n,)."""
        rows = np.asarray(x, np.float64)
        sums = np.zeros((n_classes, rows.shape[1]))
        np.add.at(sums, y, rows)
        return cls(np.bincount(y, minlength=n_classes), sums, rows.T @ rows)

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.counts + other.counts, self.sums + other.sums, self.gram + other.gram
        )

    def as_received(self) -> tuple[Statistics, int]:
        """Return what arrives, in half precision, and the bytes that it takes.

        Sent are the classes' counts and means and, once, one triangle of the covariance within
        them: numbers near 1, which half precision holds.
        """
        known, means = self.counts > 0, self.means.astype(_SENT).astype(np.float64)
        covariance = self.within.astype(_SENT).astype(np.float64)
        sums = means * self.counts[:, None]
        gram = covariance * self.counts.sum() + means.T @ sums
        width = self.sums.shape[1]
        n_values = int(known.sum()) * width + width * (width + 1) // 2
        n_bytes = n_values * np.dtype(_SENT).itemsize + 4 * int(known.sum())
        return Statistics(self.counts, sums, gram), n_bytes

    @property
    def means(self) -> np.ndarray:
        """(K, D) class means, zero for a class never seen."""
        return np.asarray(self.sums / np.maximum(self.counts, 1)[:, None])

    @property
    def within(self) -> np.ndarray:
        """(D, D) covariance within classes."""
        return np.asarray((self.gram - self.means.T @ self.sums) / max(self.counts.sum(), 1))

    def lda(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (K, D) and constants (K,) of the linear discriminant."""
        weights = np.linalg.solve(self._shrunk(), self.means.T).T
        constants = -0.5 * np.einsum("kd,kd->k", self.means, weights)
        return weights, np.where(self.counts > 0, constants, -np.inf)

    def ridge(self) -> dict[str, np.ndarray]:
        """Return the arrays of a `Ridge` that learned the same samples."""
        n, width = int(self.counts.sum()), self.sums.shape[1]
        mean = self.sums.sum(0) / n
        scale, centred = standardised_gram(self.gram, mean, n, _LEAST_SPREAD)
        targets = (self.sums - self.counts[:, None] * mean) * scale  # (K, D)
        centred[np.diag_indices(width)] += width / 3
        weights = np.linalg.solve(centred, targets.T).T
        constant = (self.counts / (n + width / 3))[:, None]
        return {
            "weights": np.concatenate([weights, constant], axis=1).astype(np.float32),
            "mean": mean.astype(np.float32), "scale": scale.astype(np.float32),
            "counts": self.counts,
        }  # fmt: skip

    def draw(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw one vector for each label from its class's Gaussian, (n, D) float32."""
        root = np.linalg.cholesky(self._shrunk())
        noise = rng.standard_normal((len(labels), len(root)))
        return np.asarray(self.means[labels] + noise @ root.T, np.float32)

    def _shrunk(self) -> np.ndarray:
        within = self.within
        scale = max(float(np.trace(within)) / len(within), 1e-12)
        return (1 - _SHRINKAGE) * within + _SHRINKAGE * scale * np.eye(len(within))


def standardised_gram(
    gram: np.ndarray, mean: np.ndarray, n: float, least_spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Standardise second moments afterwards, as if every sample had been.

    Args:
        gram: (D, D) X'X of the samples.
        mean: (D,) of them.
        n: how many.
        least_spread: least spread of a value, in units of the mean spread.

    Returns:
        scale: (D,) that a value is multiplied by.
        (D, D) Z'Z of the standardised samples.
    """
    spread = np.sqrt(np.maximum(gram.diagonal() / n - mean**2, 0))
    scale = 1.0 / np.maximum(spread, max(1e-6, least_spread * float(spread.mean())))
    return scale, (gram - n * np.outer(mean, mean)) * np.outer(scale, scale)
