"""Codecs: compress a latent to a few hundred bytes, and restore it. NumPy only.

`CODECS` maps names to codecs. A new one is a class with the methods of `LatentCodec` and a line
there, from where tests/test_contracts.py tests it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from plr_edge.errors import ConfigError
from plr_edge.replay.linear_codec import LinearCodec


class LatentCodec(Protocol):
    """Encodes latents to records of one size, and decodes them.

    A record does not depend on the other latents of its batch.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a latent."""

    @property
    def axes(self) -> str:
        """What the axes of a latent mean, one of `AXES`."""

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


class CodecFactory(Protocol):
    """Creates a codec for latents of one shape."""

    def __call__(
        self, *, shape: tuple[int, ...], bits: int, pool: int | None, signed: bool, axes: str
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
    axes: str = "",
) -> LatentCodec:
    """Return a codec by its name.

    Args:
        name: name in `CODECS`.
        shape: shape of a latent.
        bits: bits per value.
        pool: side to which maps are pooled; None stores them as they are.
        signed: whether latents can be negative.
        axes: what the axes of a latent mean; see `LinearCodec`.

    Raises:
        ConfigError: the name is unknown, or a value is not allowed.
    """
    if name not in CODECS:
        raise ConfigError(f"unknown codec {name[:40]!r}; choose one of {', '.join(CODECS)}")
    return CODECS[name](shape=shape, bits=bits, pool=pool, signed=signed, axes=axes)
