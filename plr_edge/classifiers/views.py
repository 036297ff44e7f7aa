"""Views: linear classifiers over parts of a sample, solved in closed form. NumPy only.

A view is a part of the sample [taps, exported feature]. One linear system solves both of its
classifiers: ridge regression to one-hot targets, and linear discriminant analysis with equal
priors, whose shared covariance lies one low-rank term from that of ridge. The relative Mahalanobis
distance follows from the same products.

Sources: Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
Analysis", CVPRW 2020; Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
Detection", arXiv 2106.09022, 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from plr_edge.classifiers.moments import Moments
from plr_edge.classifiers.symmetric import SymmetricMatrix

_MIN_SPREAD = 0.05  # share of the mean spread; keeps near-constant values from being blown up
# regularisation in units of the standardised covariance: a constant, and a term that falls as
# samples come in; near the best on CIFAR-100, grocery, ETH-80, fruits and MNIST from 5 a class on
_STRENGTH, _STRENGTH_PER_SAMPLE = 0.05, 0.3
_STRENGTHS = tuple(10.0**i for i in range(7))  # its factors: later ones where rounding outweighs

TAPS, EVEN, ODD = "taps", "even", "odd"
FEATURE = "feature"


@dataclass(frozen=True)
class View:
    """Both classifiers of one view. Immutable.

    Attributes:
        parts: what the view reads: `taps`, or their `even` or `odd` part, and `feature`.
        centre: (d,) float32 mean.
        scale: (d,) float32, multiplied with a centred vector.
        weights: (d, K) float32: the class means over the regularised covariance.
        frequencies: (K,) float32 share of each class.
        discriminant: (K, K) float32: turns products with `weights` into discriminants.
        bias: (K,) float32 of the discriminants.
    """

    parts: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    frequencies: np.ndarray
    discriminant: np.ndarray
    bias: np.ndarray

    def products(self, vectors: np.ndarray) -> np.ndarray:
        """Return what both classifiers follow from, (n, K), for vectors (n, d) of this view."""
        return np.asarray(((vectors - self.centre) * self.scale) @ self.weights)

    def ridge(self, products: np.ndarray) -> np.ndarray:
        """Return the regression outputs (n, K)."""
        return np.asarray((products + 1.0) * self.frequencies)

    def lda(self, products: np.ndarray) -> np.ndarray:
        """Return the discriminants (n, K)."""
        return np.asarray(products @ self.discriminant + self.bias)

    def familiarity(self, products: np.ndarray) -> np.ndarray:
        """Return (n,) the relative Mahalanobis distance to the nearest class, negated."""
        raw = products @ self.discriminant  # (n, K)
        nearest = 2.0 * (raw + self.bias).max(axis=1)
        # how much farther everything is under the covariance within classes than under that of all
        return np.asarray(nearest - (raw * self.frequencies * products).sum(axis=1))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays."""
        return {name: value for name, value in vars(self).items() if name != "parts"}

    @classmethod
    def from_arrays(cls, parts: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> View:
        """Restore what `to_arrays` returned."""
        return cls(parts, **{name: np.asarray(array) for name, array in arrays.items()})


class Mirror:
    """Even and odd parts of taps: sums and differences of cells that a mirrored image swaps.

    Attributes:
        left: (E,) index of the left cell of each pair, or of a cell on the axis.
        right: (E,) index of the right one.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        """Find the pairs.

        Args:
            shapes: shape of each tap, (C, rows, columns) or (C,), in their order.
        """
        left, right, at = list[np.ndarray](), list[np.ndarray](), 0
        for shape in shapes:
            cells = at + np.arange(int(np.prod(shape))).reshape(shape)
            at += cells.size
            if len(shape) == 3:
                half = (shape[2] + 1) // 2
                left.append(cells[:, :, :half].ravel())
                right.append(cells[:, :, ::-1][:, :, :half].ravel())
            else:
                left.append(cells.ravel())
                right.append(cells.ravel())
        self.left, self.right = (
            np.concatenate(each) if each else np.zeros(0, np.int64) for each in (left, right)
        )
        for each in (self.left, self.right):
            each.flags.writeable = False

    @property
    def has_pairs(self) -> bool:
        """Whether any two cells are mirrored."""
        return bool((self.left != self.right).any())

    def even(self, taps: np.ndarray) -> np.ndarray:
        """Return the even part (..., E) of taps (..., T)."""
        return np.asarray((taps[..., self.left] + taps[..., self.right]) * np.float32(0.5))

    def odd(self, taps: np.ndarray) -> np.ndarray:
        """Return the odd part of taps (..., T), without cells on the axis."""
        pairs = self.left != self.right
        left, right = self.left[pairs], self.right[pairs]
        return np.asarray((taps[..., left] - taps[..., right]) * np.float32(0.5))


def vectors_of(
    parts: Sequence[str], taps: np.ndarray, features: np.ndarray, mirror: Mirror | None
) -> np.ndarray:
    """Return the vectors (n, d) that a view reads.

    Args:
        parts: parts of the view.
        taps: (n, T) float32.
        features: (n, D) float32, exported.
        mirror: pairs of the taps. Not needed for the parts `taps` and `feature`.
    """
    pieces = []
    for part in parts:
        if part == FEATURE:
            pieces.append(features)
        elif part == TAPS:
            pieces.append(taps)
        else:
            assert mirror is not None
            pieces.append(mirror.even(taps) if part == EVEN else mirror.odd(taps))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def solve_views(
    moments: Moments, classes: np.ndarray, views: Sequence[tuple[str, ...]], mirror: Mirror | None
) -> list[View]:
    """Solve the classifiers of some views.

    Costs a sixth of d^3 multiply-adds for each.

    Args:
        moments: moments to solve from.
        classes: (K,) class indices that have samples.
        views: parts of each view.
        mirror: pairs of the taps.
    """
    means = moments.class_means(classes)  # (K, T + D)
    n_taps, mean = moments.n_taps, moments.mean
    frequencies = (moments.counts[classes] / moments.n).astype(np.float32)
    solved = []
    for parts in views:
        widths = [read_width(part, n_taps, moments.width - n_taps, mirror) for part in parts]
        own_means, own_mean = (
            vectors_of(parts, rows[:, :n_taps], rows[:, n_taps:], mirror)
            for rows in (means, mean[None])
        )
        for strength in _STRENGTHS:
            covariance = _covariance(moments, parts, sum(widths), mirror)
            try:
                solved.append(
                    _solve(
                        parts, covariance, widths, own_means, own_mean[0], frequencies, moments.n,
                        strength,
                    )
                )  # fmt: skip
            except np.linalg.LinAlgError:  # values that hardly vary: rounding is all of it
                if strength == _STRENGTHS[-1]:
                    raise
            else:
                break
    return solved


def _covariance(
    moments: Moments, parts: Sequence[str], d: int, mirror: Mirror | None
) -> SymmetricMatrix:
    """Return the covariance (d, d) of what a view reads."""
    n_taps, covariance = moments.n_taps, SymmetricMatrix(d)
    left, right, share = _sources(parts, n_taps, moments.width, mirror)
    for start, panel in covariance.starts():
        own = slice(start, start + len(panel))
        rows = moments.covariance_rows(left[own])
        if share[own].any():
            mirrored = moments.covariance_rows(right[own])
            rows = rows * (1 - np.abs(share[own, None])) + mirrored * share[own, None]
        panel[:] = vectors_of(parts, rows[:, :n_taps], rows[:, n_taps:], mirror)[:, start:]
    return covariance


def _sources(
    parts: Sequence[str], n_taps: int, width: int, mirror: Mirror | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which two values of a sample each value of a view is made of.

    Returns:
        left: (d,) index of the first.
        right: (d,) index of the second.
        share: (d,) float32 factor of the second, 0, 0.5 or -0.5. That of the first is the rest to
            1 in absolute value.
    """
    pieces = list[tuple[np.ndarray, np.ndarray, float]]()
    for part in parts:
        if part in (TAPS, FEATURE):
            index = np.arange(n_taps) if part == TAPS else np.arange(n_taps, width)
            pieces.append((index, index, 0.0))
            continue
        assert mirror is not None
        used = slice(None) if part == EVEN else mirror.left != mirror.right
        share = 0.5 if part == EVEN else -0.5
        pieces.append((mirror.left[used], mirror.right[used], share))
    return (
        np.concatenate([left for left, _, _ in pieces]),
        np.concatenate([right for _, right, _ in pieces]),
        np.concatenate([np.full(len(left), share, np.float32) for left, _, share in pieces]),
    )


def read_width(part: str, n_taps: int, n_features: int, mirror: Mirror | None) -> int:
    """Return the length of a part of a view."""
    zero = np.zeros((1, n_taps), np.float32), np.zeros((1, n_features), np.float32)
    return vectors_of((part,), *zero, mirror).shape[1]


def _solve(
    parts: tuple[str, ...],
    covariance: SymmetricMatrix,
    widths: Sequence[int],
    means: np.ndarray,
    centre: np.ndarray,
    frequencies: np.ndarray,
    n: int,
    factor: float,
) -> View:
    """Solve one view from the centred means (K, d) and the covariance (d, d), which is used up.

    Raises:
        LinAlgError: rounding outweighs the regularisation, which `factor` multiplies.
    """
    spread, d = np.sqrt(np.maximum(covariance.diagonal(), 0.0)), covariance.width
    edges = np.cumsum([0, *widths])
    least = [max(_MIN_SPREAD * float(spread[a:b].mean()), 1e-6) for a, b in pairwise(edges)]
    scale = (1.0 / np.maximum(spread, np.repeat(least, widths))).astype(np.float32)
    strength = np.float32(factor * (_STRENGTH + _STRENGTH_PER_SAMPLE * d / max(n, 1)))
    for start, panel in covariance.starts():
        panel *= scale[start:]
        panel *= scale[start : start + len(panel), None]
        panel[np.diag_indices(len(panel))] += strength
    scaled = means * scale  # (K, d)
    weights = covariance.solve(scaled.T)  # (d, K)
    between = (scaled @ weights).astype(np.float64)  # (K, K)
    # the covariance within classes is the system less the scatter of the class means: Woodbury
    discriminant = np.linalg.inv(np.eye(len(means)) - frequencies[:, None] * between)
    bias = -0.5 * np.einsum("kl,lk->k", between, discriminant)
    return View(
        parts=parts,
        centre=centre,
        scale=scale,
        weights=weights,
        frequencies=frequencies,
        discriminant=discriminant.astype(np.float32),
        bias=bias.astype(np.float32),
    )
