"""Codecs: compress a latent to a few hundred bytes, and restore it. NumPy only.

`CODECS` maps names to codecs. A new one is a class with the methods of `LatentCodec` and a line
there, from where tests/test_contracts.py tests it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from plr_edge.errors import ConfigError
from plr_edge.replay.window import central

_OCTAVE_STEPS = 16  # channel scales are stored as max_scale * 2 ** (-code / 16), one byte each


class LatentCodec(Protocol):
    """Encodes latents to records of one size, and decodes them.

    A record does not depend on the other latents of its batch.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a latent, (C, H, W) or (D,)."""

    @property
    def record_bytes(self) -> int:
        """Size of one record in bytes."""

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
            records: (n, record_bytes) uint8, as `encode` of an equal codec returned them.

        Returns:
            (n, *shape) float32.
        """

    def of_window(self, side: int) -> LatentCodec | None:
        """Return the codec of records that hold the central window of a map only.

        Args:
            side: rows and columns of the window.

        Returns:
            The codec. None if a window cannot be cut from records.
        """

    def crop(self, records: np.ndarray, side: int) -> np.ndarray:
        """Cut the central window from records, for the codec that `of_window` returns.

        Args:
            records: (n, record_bytes) uint8.
            side: rows and columns of the window.

        Returns:
            (n, fewer bytes) uint8. Their values are those of the whole records.
        """


@dataclass(frozen=True, kw_only=True)
class LinearCodec:
    """Quantise latents to 8 or 4 bits, with a scale per record and channel.

    A record consists of one float32, the largest channel scale; one byte per channel, the distance
    of the channel's scale below it in sixteenths of an octave, rounded so that nothing is clipped;
    and the values, two per byte at 4 bits. A latent of 160x4x4 takes 2,724 bytes at 8 bits and
    1,444 at 4 bits.

    Attributes:
        shape: shape of a latent, (C, H, W) or (D,).
        bits: bits per value, 8 or 4.
        pool: side to which maps are average-pooled before storing; None stores them as they are.
            Decoded latents are enlarged again. New latents must therefore be encoded and decoded
            before training, or the learner distinguishes them by resolution instead of class.
        signed: False for latents that are never negative, e.g. outputs of a ReLU.

    Raises:
        ConfigError: a value is not allowed.

    Example:
        >>> codec = LinearCodec(shape=(2, 3, 3), bits=4)
        >>> records = codec.encode(np.ones((5, 2, 3, 3), np.float32))
        >>> records.shape, codec.decode(records).shape
        ((5, 15), (5, 2, 3, 3))
    """

    ALLOWED_BITS: ClassVar[tuple[int, ...]] = (4, 8)

    shape: tuple[int, ...]
    bits: int = 8
    pool: int | None = None
    signed: bool = True

    def __post_init__(self) -> None:
        if self.bits not in self.ALLOWED_BITS:
            allowed = " or ".join(map(str, self.ALLOWED_BITS))
            raise ConfigError(f"bits is {self.bits}; it must be {allowed}")
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise ConfigError(f"latent shape is {self.shape}; it must be (C, H, W) or (D,)")
        if self.pool is not None and len(self.shape) == 1:
            raise ConfigError(
                f"pool is {self.pool}; latents of shape {self.shape} cannot be pooled; leave it out"
            )
        if self.pool is not None and not 1 <= self.pool <= self.shape[1]:
            raise ConfigError(
                f"pool is {self.pool}; for latents of shape {self.shape} it must lie in "
                f"1..{self.shape[1]}"
            )

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of a latent as it is stored: (C, pool, pool), or `shape` without pooling."""
        return (self.shape[0], self.pool, self.pool) if self.pool else self.shape

    @property
    def _n_channels(self) -> int:
        return self.stored_shape[0] if len(self.stored_shape) == 3 else 1

    @property
    def _n_value_bytes(self) -> int:
        return math.ceil(math.prod(self.stored_shape) * self.bits / 8)

    @property
    def record_bytes(self) -> int:
        """Size of one record in bytes."""
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
            ConfigError: the shape is wrong, or a value is not finite.
        """
        if latents.shape[1:] != self.shape:
            raise ConfigError(
                f"latents have shape {latents.shape[1:]}; this codec needs {self.shape}"
            )
        if not np.isfinite(latents).all():
            raise ConfigError("a latent contains NaN or infinity; drop its frame")
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
            records: (n, record_bytes) uint8, as `encode` of an equal codec returned them.

        Returns:
            (n, *shape) float32.

        Raises:
            ConfigError: the records have a wrong size.
        """
        if records.ndim != 2 or records.shape[1] != self.record_bytes:
            raise ConfigError(
                f"records have shape {records.shape}; this codec needs (n, {self.record_bytes})"
            )
        n, n_channels = len(records), self._n_channels
        top = np.ascontiguousarray(records[:, :4]).view("<f4")  # (n, 1)
        scales = self._scales(top, records[:, 4 : 4 + n_channels])
        n_each = math.prod(self.stored_shape) // n_channels
        values = self._unpack(records[:, 4 + n_channels :]).reshape(n, n_channels, n_each)
        decoded = (values * scales[:, :, None]).reshape(n, *self.stored_shape)
        return self._enlarged(decoded)

    def of_window(self, side: int) -> LinearCodec | None:
        """Return the codec of records that hold a window only; None for pooled maps."""
        if self.pool is not None or len(self.shape) != 3:
            return None
        return replace(self, shape=(self.shape[0], side, side))

    def crop(self, records: np.ndarray, side: int) -> np.ndarray:
        """Cut the central window from records; the scales stay those of the whole map."""
        n, head = len(records), 4 + self._n_channels
        top = np.ascontiguousarray(records[:, :4]).view("<f4")  # (n, 1)
        values = self._unpack(records[:, head:]).reshape(n, *self.shape)
        return self._pack(top, records[:, 4:head], central(values, side).reshape(n, -1))

    def _scales(self, top: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the channel scales (n, C) from the largest one (n, 1) and their codes (n, C)."""
        exponents = codes.astype(np.float32) * np.float32(-1.0 / _OCTAVE_STEPS)
        return (top * np.exp2(exponents)).astype(np.float32)

    def _pack(self, top: np.ndarray, codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return records of scales (n, 1) and (n, C) and quantised values (n, m)."""
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
        """Return the quantised values (n, m) float32 of the last bytes of records."""
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
    """Creates a codec for latents of one shape."""

    def __call__(
        self, *, shape: tuple[int, ...], bits: int, pool: int | None, signed: bool
    ) -> LatentCodec:
        """Return the codec; for the arguments, see `LinearCodec`.

        Raises:
            ConfigError: a value is not allowed.
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
    """Return a codec by its name.

    Args:
        name: name in `CODECS`.
        shape: shape of a latent, (C, H, W) or (D,).
        bits: bits per value.
        pool: side to which maps are pooled; None stores them as they are.
        signed: whether latents can be negative.

    Raises:
        ConfigError: the name is unknown, or a value is not allowed.
    """
    if name not in CODECS:
        raise ConfigError(f"unknown codec {name[:40]!r}; choose one of {', '.join(CODECS)}")
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
