"""Moments: class sums and second moments of a vector, kept as a stream. NumPy only.

Every linear classifier of the fitted mix follows from them in closed form, at any time, without the
samples. They are exact whatever the order of the samples, and samples can be taken out again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from plr_edge.classifiers.class_means import pad_classes, unit
from plr_edge.classifiers.symmetric import SymmetricMatrix
from plr_edge.errors import StateError

_MAX_PENDING = 64  # samples that the matrix may lag behind


class Moments:
    """Counts, class sums and second moments of samples [taps, exported feature].

    Attributes:
        n_taps: T, the length of the taps.
        width: T + D, the length of a sample.
        counts: (K,) int64 samples by class.
        shift: (T + D,) float32, subtracted from each sample: the mean of the first batch. It keeps
            the matrix precise in float32.
        sums: (K, T + D) float32, sums of the shifted samples by class.
        unit_sums: (K, D) float32, sums of the exported features scaled to unit length.
    """

    def __init__(self, n_taps: int, n_features: int) -> None:
        """Start empty.

        Args:
            n_taps: T, the length of the taps.
            n_features: D, the length of the exported feature.
        """
        self.n_taps, self.width = n_taps, n_taps + n_features
        self.counts = np.zeros(0, np.int64)
        self.shift = np.zeros(self.width, np.float32)
        self.sums = np.zeros((0, self.width), np.float32)
        self.unit_sums = np.zeros((0, n_features), np.float32)
        # sums of the products of two values; empty at first, so that a robot which only answers
        # does not hold it
        self._matrix = SymmetricMatrix(0)
        self._pending: list[np.ndarray] = []
        # samples still in the matrix, which is shared
        self._taken_out: np.ndarray = np.zeros((0, self.width), np.float32)

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.counts.sum())

    def learn_many(self, samples: np.ndarray, labels: np.ndarray) -> None:
        """Add samples (n, T + D) float32 with class indices (n,)."""
        if len(labels) == 0:
            return
        if self.n == 0:
            self.shift = samples.mean(axis=0, dtype=np.float32)
        self._count(samples, labels, 1)
        self._pending.append(samples - self.shift)
        if sum(map(len, self._pending)) >= _MAX_PENDING:
            self._flush()

    def without(self, samples: np.ndarray, labels: np.ndarray) -> Moments:
        """Return moments from which samples (n, T + D) of classes (n,) were taken out.

        They share the matrix, of tens of megabytes, so use them before this learns more.
        """
        self._flush()
        other = self._without_matrix()
        other._matrix = self._matrix
        other._count(samples, labels, -1)
        other._taken_out = np.asarray(samples - self.shift, np.float32)
        return other

    def without_class(self, label: int) -> Moments:
        """Return moments that know nothing of a class but its part in the covariance of all.

        Its second moments are not kept by themselves. Taken out are those that a class of its size
        and mean would have with the covariance within classes, which therefore stays as it is. The
        classes after it move up by one.
        """
        other = self.copy()
        other._flush()
        if label >= len(self.counts):
            return other
        n, counts = max(self.n, 1), self.counts[:, None]
        means = other.sums / np.maximum(counts, 1)
        for start, panel in other._matrix.starts():
            rows = slice(start, start + len(panel))
            between = (means[:, rows] * counts).T @ means[:, start:]
            within = (panel - between) / n
            own = np.outer(means[label, rows], means[label, start:]) + within
            panel -= self.counts[label] * own
        for name in ("counts", "sums", "unit_sums"):
            setattr(other, name, np.delete(getattr(other, name), label, axis=0))
        if other.n == 0:
            return Moments(self.n_taps, self.width - self.n_taps)
        return other.recentred()

    def recentred(self) -> Moments:
        """Return the same moments, shifted by the mean of all samples instead of the first ones."""
        other = self.copy()
        other._flush()
        if not self.n:
            return other
        shift = (other.sums.sum(axis=0) / self.n).astype(np.float32)
        for start, panel in other._matrix.starts():
            panel -= self.n * np.outer(shift[start : start + len(panel)], shift[start:])
        other.sums = other.sums - self.counts[:, None].astype(np.float32) * shift
        other.shift = other.shift + shift
        return other

    def copy(self) -> Moments:
        """Return an independent copy."""
        other = self._without_matrix()
        other._matrix, other._taken_out = self._matrix.copy(), self._taken_out
        other._pending = [batch.copy() for batch in self._pending]
        return other

    @property
    def mean(self) -> np.ndarray:
        """(T + D,) float32 mean of all samples."""
        return np.asarray(self.sums.sum(axis=0) / max(self.n, 1) + self.shift, dtype=np.float32)

    def class_means(self, rows: np.ndarray) -> np.ndarray:
        """Return the class means of classes `rows` (k,) less the mean of all: (k, T + D)."""
        centre = self.sums.sum(axis=0) / max(self.n, 1)
        return np.asarray(self.sums[rows] / self.counts[rows, None] - centre, dtype=np.float32)

    def covariance(self) -> np.ndarray:
        """Return the covariance of all samples, (T + D, T + D) float32."""
        return self.covariance_rows(np.arange(self.width))

    def covariance_rows(self, index: np.ndarray) -> np.ndarray:
        """Return some rows of the covariance, (n, T + D) float32."""
        out_of = self._taken_out
        if self._pending or not len(out_of):
            self._flush()
            out_of = self._taken_out
        if not self._matrix.width:
            return np.zeros((len(index), self.width), np.float32)
        n = max(self.n, 1)
        centre = (self.sums.sum(axis=0) / n).astype(np.float32)
        rows = self._matrix.rows(index)
        if len(out_of):
            rows -= out_of[:, index].T @ out_of
        rows /= n
        rows -= centre[index, None] * centre
        return rows

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what `restore` needs. Of the matrix only one triangle is kept."""
        self._flush()
        return {
            "counts": self.counts,
            "shift": self.shift,
            "sums": self.sums,
            "unit_sums": self.unit_sums,
            "triangle": self._matrix.triangle() if self.n else np.zeros(0, np.float32),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from what `to_arrays` returned.

        Raises:
            StateError: the arrays do not fit this width.
        """
        triangle, width = arrays["triangle"], self.width
        fits = len(triangle) in (0, width * (width + 1) // 2)
        if not fits or arrays["sums"].shape[1:] != (width,):
            raise StateError(
                f"the state holds moments of {arrays['sums'].shape[1]} values; this bundle needs "
                f"{width}; restore a copy, or choose another --state"
            )
        self.counts, self.shift = np.array(arrays["counts"]), np.array(arrays["shift"])
        self.sums, self.unit_sums = np.array(arrays["sums"]), np.array(arrays["unit_sums"])
        self._pending.clear()
        self._matrix = SymmetricMatrix(0)
        if len(triangle):
            self._matrix = SymmetricMatrix.from_triangle(width, triangle)

    def _count(self, samples: np.ndarray, labels: np.ndarray, sign: int) -> None:
        self.counts, self.sums = (pad_classes(a, labels) for a in (self.counts, self.sums))
        self.unit_sums = pad_classes(self.unit_sums, labels)
        features = unit(samples[:, self.n_taps :])
        for label, sample, feature in zip(labels, samples, features, strict=True):
            self.counts[label] += sign
            self.sums[label] += sign * (sample - self.shift)
            self.unit_sums[label] += sign * feature

    def _without_matrix(self) -> Moments:
        other = Moments(self.n_taps, self.width - self.n_taps)
        other.counts, other.shift = self.counts.copy(), self.shift.copy()
        other.sums, other.unit_sums = self.sums.copy(), self.unit_sums.copy()
        return other

    def _flush(self) -> None:
        if len(self._taken_out):
            self._matrix, out_of = self._matrix.copy(), self._taken_out
            self._taken_out = out_of[:0]
            self._add(out_of, -1.0)
        if self._pending:
            shifted = np.concatenate(self._pending)
            self._pending.clear()
            self._add(shifted, 1.0)

    def _add(self, shifted: np.ndarray, sign: float) -> None:
        """Add samples (n, T + D), shifted, to the matrix: half its entries, (T + D)^2 / 2 MACs."""
        if not self._matrix.width:
            self._matrix = SymmetricMatrix(self.width)
        self._matrix.add_products(shifted, sign)
