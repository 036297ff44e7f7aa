"""Codecs of other methods: plain floats, and product quantisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import faiss
import numpy as np

_BITS = 8
_ROUNDS = 10
_MOST_ROWS = 20_000
_FEWEST_VALUES = 5  # of a sub-vector


@dataclass(frozen=True)
class FloatCodec:
    """Latents as float32.

    Attributes:
        shape: shape of a latent.
        least: least value that a latent can hold.
    """

    shape: tuple[int, ...]
    least: float = -np.inf
    axes: str = ""  # for any

    @property
    def record_bytes(self) -> int:
        """Bytes of one latent."""
        return 4 * math.prod(self.shape)

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Encode (n, *shape) float32 to (n, record_bytes) uint8."""
        flat = np.ascontiguousarray(latents, np.float32)
        return flat.reshape(len(latents), math.prod(self.shape)).view(np.uint8)

    def decode(self, records: np.ndarray) -> np.ndarray:
        """Decode; the inverse of `encode`."""
        flat = np.ascontiguousarray(records).view(np.float32)
        return flat.reshape(len(records), *self.shape)


class ProductCodec:
    """One byte for each sub-vector of a position's channels, by faiss as REMIND does.

    Method: Jegou et al., "Product Quantization for Nearest Neighbor Search", TPAMI 2011, section
    II; codebooks by k-means.
    """

    def __init__(self, latents: np.ndarray, *, seed: int = 0) -> None:
        """Fit the codebooks to latents (n, C, H, W) or (n, D) float32."""
        self.shape, self.axes = latents.shape[1:], "CHW" if latents.ndim == 4 else "D"
        channels = self.shape[0]
        self._n_positions = math.prod(self.shape[1:])
        most = channels // _FEWEST_VALUES
        n_parts = max(n for n in range(1, most + 1) if channels % n == 0)
        rows = self._rows(latents)  # (n * positions, C)
        rows = rows[np.random.default_rng(seed).permutation(len(rows))[:_MOST_ROWS]]
        rows = np.resize(rows, (max(len(rows), 2**_BITS), channels))  # k-means wants as many
        faiss.omp_set_num_threads(1)
        self._quantiser = faiss.ProductQuantizer(channels, n_parts, _BITS)
        self._quantiser.cp.seed, self._quantiser.cp.niter = seed, _ROUNDS
        self._quantiser.cp.min_points_per_centroid = 1  # no warning
        self._quantiser.train(np.ascontiguousarray(rows))
        self.fit_macs = _ROUNDS * len(rows) * channels * 2**_BITS

    @property
    def record_bytes(self) -> int:
        """Bytes of one latent."""
        return int(self._quantiser.M) * self._n_positions

    @property
    def encode_macs(self) -> int:
        """Multiply-adds of encoding one latent: distances to every centroid."""
        return math.prod(self.shape) * 2**_BITS

    @property
    def codebook_bytes(self) -> int:
        """Bytes of all codebooks."""
        return 4 * 2**_BITS * int(self.shape[0])

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Encode (n, *shape) float32 to (n, record_bytes) uint8."""
        if not len(latents):
            return np.zeros((0, self.record_bytes), np.uint8)
        codes = self._quantiser.compute_codes(self._rows(latents))
        return np.asarray(codes).reshape(len(latents), self.record_bytes)

    def decode(self, records: np.ndarray) -> np.ndarray:
        """Return the centroids that the codes name."""
        if not len(records):
            return np.zeros((0, *self.shape), np.float32)
        codes = np.ascontiguousarray(records).reshape(-1, int(self._quantiser.M))
        rows = np.asarray(self._quantiser.decode(codes))
        rows = rows.reshape(len(records), self._n_positions, self.shape[0])
        return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(len(records), *self.shape)

    def _rows(self, latents: np.ndarray) -> np.ndarray:
        flat = np.asarray(latents, np.float32)
        flat = flat.reshape(len(latents), self.shape[0], self._n_positions)
        return np.ascontiguousarray(flat.transpose(0, 2, 1)).reshape(-1, self.shape[0])
