"""LinearCodec: latents in 8 or 4 bits a value, with a scale for each channel. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from plr_edge.errors import ConfigError
from plr_edge.replay.latent_axes import AXES, checked_axes, largest_pool, pool_matrix
from plr_edge.replay.window import central

_OCTAVE_STEPS = 16  # channel scales are stored as max_scale * 2 ** (-code / 16), one byte each


@dataclass(frozen=True, kw_only=True)
class LinearCodec:
    """Quantise latents to 8 or 4 bits, with a scale per record and channel.

    A record consists of one float32, the largest channel scale; one byte per channel, the distance
    of the channel's scale below it in sixteenths of an octave, rounded so that nothing is clipped;
    and the values channel by channel, two per byte at 4 bits. A latent of 160x4x4 takes 2,724 bytes
    at 8 bits and 1,444 at 4 bits.

    Attributes:
        shape: shape of a latent.
        bits: bits per value, 8 or 4.
        pool: side to which maps are average-pooled before storing; None stores them as they are.
            Decoded latents are enlarged again. New latents must therefore be encoded and decoded
            before training, or the learner distinguishes them by resolution instead of class.
        signed: False for latents that are never negative, e.g. outputs of a ReLU.
        axes: what the axes of a latent mean: `CHW` or `HWC` of a map, `ND` of N tokens with D
            channels, `CT` of a sequence, `D` of a vector. By default CHW, ND or D, by their number.

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
    axes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", checked_axes(self.shape, self.axes))
        if self.bits not in self.ALLOWED_BITS:
            allowed = " or ".join(map(str, self.ALLOWED_BITS))
            raise ConfigError(f"bits is {self.bits}; it must be {allowed}")
        if self.pool is None:
            return
        largest = largest_pool(self.shape, self.axes)
        if largest is None:
            raise ConfigError(
                f"pool is {self.pool}; latents of shape {self.shape} ({self.axes}) cannot be "
                "pooled; leave it out"
            )
        if not 1 <= self.pool <= largest:
            raise ConfigError(
                f"pool is {self.pool}; for latents of shape {self.shape} it must lie in "
                f"1..{largest}"
            )

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of a latent as it is stored: channels first, and pooled."""
        channels, *places = self._channels_first
        return (channels, *(self.pool or n for n in places))

    @property
    def _channels_first(self) -> tuple[int, ...]:
        """Shape of a latent with the axis of its channels in front; (1, D) of a vector."""
        axis = AXES[self.axes]
        rest = [n for at, n in enumerate(self.shape) if at != axis]
        return (1 if axis is None else self.shape[axis], *rest)

    @property
    def _n_channels(self) -> int:
        return self.stored_shape[0]

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
    def _pool_matrices(self) -> tuple[np.ndarray, ...]:
        assert self.pool is not None
        return tuple(pool_matrix(size, self.pool) for size in self._channels_first[1:])

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
        ordered = np.moveaxis(latents.astype(np.float32), 1 + (AXES[self.axes] or 0), 1)
        values = self._pooled(ordered).reshape(n, self._n_channels, n_each)
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
        ordered = np.moveaxis(self._enlarged(decoded), 1, 1 + (AXES[self.axes] or 0))
        return np.ascontiguousarray(ordered).reshape(n, *self.shape)

    def of_window(self, side: int) -> LinearCodec | None:
        """Return the codec of records that hold a window only; None for pooled maps."""
        if self.pool is not None or self.axes != "CHW":
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
        """Return latents (n, C, ...) pooled along each axis of places."""
        if not self.pool:
            return latents
        if len(self._pool_matrices) == 1:
            return np.einsum("pt,nct->ncp", *self._pool_matrices, latents, optimize=True)
        rows, columns = self._pool_matrices
        return np.einsum("pr,ncrs,qs->ncpq", rows, latents, columns, optimize=True)

    def _enlarged(self, pooled: np.ndarray) -> np.ndarray:
        """Return pooled latents (n, C, ...) in the size that they had."""
        if not self.pool:
            return pooled
        for axis, size in enumerate(self._channels_first[1:], 2):
            pooled = pooled.take(np.arange(size) * self.pool // size, axis)
        return np.ascontiguousarray(pooled)
