"""Codecs: one latent to a few hundred bytes and back.

NumPy only. Knows shapes and bits, nothing of classes, networks or files. A new codec is a class
with the methods of `LatentCodec` and a line in `CODECS`; tests/test_contracts.py tests it from
there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from plr_edge.errors import ConfigError

_OCTAVE_STEPS = 16  # channel scales are stored as max_scale * 2 ** (-code / 16), one byte each
_ALLOWED_BITS = (4, 8)


class LatentCodec(Protocol):
    """Encodes latents as records of one size, and decodes them again.

    A record does not depend on the other latents of its batch.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a latent: (C, H, W) or (D,)."""

    @property
    def record_bytes(self) -> int:
        """Bytes of one encoded latent."""

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Encode a batch.

        Args:
            latents: (n, *shape) float32, finite.

        Returns:
            (n, record_bytes) uint8.
        """

    def decode(self, records: np.ndarray) -> np.ndarray:
        """Decode a batch.

        Args:
            records: (n, record_bytes) uint8, from `encode` of an equal codec.

        Returns:
            (n, *shape) float32.
        """


@dataclass(frozen=True, kw_only=True)
class LinearCodec:
    """Quantise latents to 8 or 4 bits with a scale per channel and record.

    A record is: one float32 (the largest channel scale), one byte a channel (how many sixteenths
    of an octave below it the channel's own scale lies, rounded so that nothing is clipped), then
    the values, two to a byte at 4 bits. A 160x4x4 latent takes 2,724 bytes at 8 bits, 1,444 at 4.

    Attributes:
        shape: (C, H, W) or (D,) of a latent.
        bits: 8 or 4.
        pool: side to which maps are average-pooled before storing, None for as they are. Decoded
            latents are enlarged again, so a learner must see new latents encoded and decoded too;
            else it learns resolution instead of class.
        signed: False for latents that are never negative, such as those behind a ReLU.
    """

    shape: tuple[int, ...]
    bits: int = 8
    pool: int | None = None
    signed: bool = True

    def __post_init__(self) -> None:
        if self.bits not in _ALLOWED_BITS:
            raise ConfigError(f"bits is {self.bits}; it must be 4 or 8")
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise ConfigError(f"latent shape is {self.shape}; it must be (C, H, W) or (D,)")
        if self.pool is not None and not (len(self.shape) == 3 and 1 <= self.pool <= self.shape[1]):
            raise ConfigError(f"pool is {self.pool}; for {self.shape} it must lie in 1..height")

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of what is quantised: (C, pool, pool), or the latent's own."""
        return (self.shape[0], self.pool, self.pool) if self.pool else self.shape

    @property
    def _n_channels(self) -> int:
        return self.stored_shape[0] if len(self.stored_shape) == 3 else 1

    @property
    def _n_value_bytes(self) -> int:
        return math.ceil(math.prod(self.stored_shape) * self.bits / 8)

    @property
    def record_bytes(self) -> int:
        """Bytes of one encoded latent."""
        return 4 + self._n_channels + self._n_value_bytes

    @property
    def _max_code(self) -> int:
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @cached_property
    def _pool_matrices(self) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = self.shape[1], self.shape[2]
        assert self.pool is not None
        return pool_matrix(rows, self.pool), pool_matrix(columns, self.pool)

    def encode(self, latents: np.ndarray) -> np.ndarray:
        """Encode a batch.

        Args:
            latents: (n, *shape) float32, finite.

        Returns:
            (n, record_bytes) uint8.

        Raises:
            ConfigError: the shape is another, or a value is not finite.
        """
        if latents.shape[1:] != self.shape:
            raise ConfigError(f"latents are {latents.shape[1:]}; this codec takes {self.shape}")
        if not np.isfinite(latents).all():
            raise ConfigError("a latent holds NaN or infinity; drop the frame that it came from")
        n = len(latents)
        n_each = math.prod(self.stored_shape) // self._n_channels
        values = self._pooled(latents.astype(np.float32)).reshape(n, self._n_channels, n_each)
        if not self.signed:
            values = np.maximum(values, 0.0)
        scales = np.abs(values).max(axis=2) / self._max_code  # (n, C)
        top = np.maximum(scales.max(axis=1, keepdims=True), np.float32(1e-30))  # (n, 1)
        octaves = np.log2(top / np.maximum(scales, top * 2.0**-15))
        codes = np.clip(np.floor(octaves * _OCTAVE_STEPS), 0, 255).astype(np.uint8)
        scales = self._scales(top, codes)
        low = -self._max_code if self.signed else 0
        quantised = np.clip(np.rint(values / scales[:, :, None]), low, self._max_code)
        return self._pack(top, codes, quantised.reshape(n, self._n_channels * n_each))

    def decode(self, records: np.ndarray) -> np.ndarray:
        """Decode a batch.

        Args:
            records: (n, record_bytes) uint8, from `encode` of an equal codec.

        Returns:
            (n, *shape) float32.

        Raises:
            ConfigError: the records have another length.
        """
        if records.ndim != 2 or records.shape[1] != self.record_bytes:
            raise ConfigError(f"records are {records.shape}; need (n, {self.record_bytes})")
        n, n_channels = len(records), self._n_channels
        top = np.ascontiguousarray(records[:, :4]).view("<f4")  # (n, 1)
        scales = self._scales(top, records[:, 4 : 4 + n_channels])
        n_each = math.prod(self.stored_shape) // n_channels
        values = self._unpack(records[:, 4 + n_channels :]).reshape(n, n_channels, n_each)
        decoded = (values * scales[:, :, None]).reshape(n, *self.stored_shape)
        return self._enlarged(decoded)

    def _scales(self, top: np.ndarray, codes: np.ndarray) -> np.ndarray:
        exponents = codes.astype(np.float32) * np.float32(-1.0 / _OCTAVE_STEPS)
        return (top * np.exp2(exponents)).astype(np.float32)

    def _pack(self, top: np.ndarray, codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        stored = values.astype(np.int16)
        if self.bits == 4:
            stored = stored & 0xF
            if stored.shape[1] % 2:
                stored = np.pad(stored, ((0, 0), (0, 1)))
            stored = stored[:, 0::2] | (stored[:, 1::2] << 4)
        payload = (stored & 0xFF).astype(np.uint8)
        head = np.ascontiguousarray(top.astype("<f4")).view(np.uint8)  # (n, 4)
        return np.concatenate([head, codes, payload], axis=1)

    def _unpack(self, payload: np.ndarray) -> np.ndarray:
        if self.bits == 8:
            return payload.astype(np.int8 if self.signed else np.uint8).astype(np.float32)
        nibbles = np.empty((len(payload), payload.shape[1] * 2), np.int8)
        nibbles[:, 0::2] = payload & 0xF
        nibbles[:, 1::2] = payload >> 4
        nibbles = nibbles[:, : math.prod(self.stored_shape)]
        if self.signed:
            nibbles = np.where(nibbles > 7, nibbles - 16, nibbles)
        return nibbles.astype(np.float32)

    def _pooled(self, latents: np.ndarray) -> np.ndarray:
        if not self.pool:
            return latents
        rows, columns = self._pool_matrices
        return np.einsum("pr,ncrs,qs->ncpq", rows, latents, columns, optimize=True)

    def _enlarged(self, pooled: np.ndarray) -> np.ndarray:
        if not self.pool:
            return pooled
        at_row = np.arange(self.shape[1]) * self.pool // self.shape[1]
        at_column = np.arange(self.shape[2]) * self.pool // self.shape[2]
        return np.ascontiguousarray(pooled[:, :, at_row][:, :, :, at_column])


class CodecFactory(Protocol):
    """Makes a codec for latents of one shape."""

    def __call__(
        self, *, shape: tuple[int, ...], bits: int, pool: int | None, signed: bool
    ) -> LatentCodec:
        """Return the codec; the arguments are those of `LinearCodec`.

        Raises:
            ConfigError: the codec cannot be made so.
        """


CODECS: dict[str, CodecFactory] = {"linear": LinearCodec}


def make_codec(
    name: str,
    shape: tuple[int, ...],
    *,
    bits: int = 8,
    pool: int | None = None,
    signed: bool = True,
) -> LatentCodec:
    """Return the codec of a name.

    Raises:
        ConfigError: there is none of this name, or it cannot be made so.
    """
    if name not in CODECS:
        raise ConfigError(f"no codec {name[:40]!r}; there are {', '.join(CODECS)}")
    return CODECS[name](shape=shape, bits=bits, pool=pool, signed=signed)


def pool_matrix(size: int, cells: int) -> np.ndarray:
    """Return the (cells, size) float32 matrix that averages `size` values into `cells`.

    A cell covers the values that overlap it, as adaptive average pooling does.
    """
    matrix = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        start, stop = cell * size // cells, math.ceil((cell + 1) * size / cells)
        matrix[cell, start:stop] = 1.0 / (stop - start)
    return matrix
