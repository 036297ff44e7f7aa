"""Codecs of other methods: plain floats, and product quantisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_CODES = 256
_ROUNDS = 10
_MOST_ROWS = 20_000
_FEWEST_VALUES = 5  # of a sub-vector


@dataclass(frozen=True)
class FloatCodec:
    """Latents as float32.

    Attributes:
        shape: of a latent.
        least: value below which none can lie.
    """

    shape: tuple[int, ...]
    least: float = -np.inf

    @property
    def record_bytes(self) -> int:
        """Bytes of one latent."""
        return 4 * math.prod(self.shape)

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Encode (n, *shape) float32 to (n, record_bytes) uint8."""
        flat = np.ascontiguousarray(latents, np.float32).reshape(
            len(latents), math.prod(self.shape)
        )
        return flat.view(np.uint8)

    def decode(self, records: np.ndarray) -> np.ndarray:
        """Decode; the inverse of `encode`."""
        flat = np.ascontiguousarray(records).view(np.float32)
        return flat.reshape(len(records), *self.shape)


class ProductCodec:
    """One byte for each sub-vector of a position's channels.

    Method: Jegou et al., "Product Quantization for Nearest Neighbor Search", TPAMI 2011, section
    II; codebooks by k-means.
    """

    def __init__(self, latents: np.ndarray, *, seed: int = 0) -> None:
        """Fit the codebooks to latents (n, C, H, W) or (n, D) float32."""
        self.shape = latents.shape[1:]
        channels = self.shape[0]
        self._n_parts = max(
            n for n in range(1, channels // _FEWEST_VALUES + 1) if channels % n == 0
        )
        self._n_positions = math.prod(self.shape[1:])
        rng = np.random.default_rng(seed)
        rows = self._rows(latents)  # (n * positions, C)
        rows = rows[rng.permutation(len(rows))[:_MOST_ROWS]]
        parts = np.split(rows, self._n_parts, axis=1)
        self._codebooks = np.stack(
            [_k_means(part, rng) for part in parts]
        )  # (parts, codes, values)

    @property
    def record_bytes(self) -> int:
        """Bytes of one latent."""
        return self._n_parts * self._n_positions

    @property
    def codebook_bytes(self) -> int:
        """Bytes of all codebooks."""
        return int(self._codebooks.nbytes)

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Encode (n, *shape) float32 to (n, record_bytes) uint8."""
        parts = np.split(self._rows(latents), self._n_parts, axis=1)
        codes = [_nearest(x, book) for x, book in zip(parts, self._codebooks, strict=True)]
        return np.stack(codes, axis=1).astype(np.uint8).reshape(len(latents), self.record_bytes)

    def decode(self, records: np.ndarray) -> np.ndarray:
        """Return the centroids that the codes name."""
        codes = records.reshape(len(records) * self._n_positions, self._n_parts)
        pieces = [book[codes[:, i]] for i, book in enumerate(self._codebooks)]
        rows = np.concatenate(pieces, axis=1).reshape(
            len(records), self._n_positions, self.shape[0]
        )
        return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(len(records), *self.shape)

    def _rows(self, latents: np.ndarray) -> np.ndarray:
        flat = np.asarray(latents).reshape(len(latents), self.shape[0], self._n_positions)
        return np.ascontiguousarray(flat.transpose(0, 2, 1)).reshape(-1, self.shape[0])


def _nearest(x: np.ndarray, book: np.ndarray) -> np.ndarray:
    return np.asarray(((book**2).sum(1) - 2 * x @ book.T).argmin(1))


def _k_means(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lloyd's algorithm; an empty cluster takes a random sample."""
    book = x[rng.integers(len(x), size=_CODES)].copy()
    for _ in range(_ROUNDS):
        codes = _nearest(x, book)
        counts = np.bincount(codes, minlength=_CODES)
        sums = np.zeros_like(book)
        np.add.at(sums, codes, x)
        book = sums / np.maximum(counts, 1)[:, None]
        empty = counts == 0
        book[empty] = x[rng.integers(len(x), size=int(empty.sum()))]
    return np.asarray(book, np.float32)
