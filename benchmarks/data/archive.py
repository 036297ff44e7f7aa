"""One .npz file of an image pack, read array by array."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import one_line

_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, MemoryError, OverflowError, NotImplementedError,
    RuntimeError, SyntaxError, struct.error, zipfile.BadZipFile, lzma.LZMAError, zlib.error,
)  # fmt: skip
_T = TypeVar("_T")


class Archive:
    """Arrays of an .npz file, each read when first asked for and then kept.

    Raises:
        StreamError: from every method, if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, np.ndarray] = {}
        self.names: set[str] = self._guard(
            lambda zipped: {name.removesuffix(".npy") for name in zipped.namelist()}
        )

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = self._guard(lambda zipped: _array(zipped, name))
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array; only its header is read."""
        if name in self._arrays:
            return tuple(self._arrays[name].shape)
        return self._guard(lambda zipped: _header(zipped, name))

    def column(self, name: str, n: int) -> np.ndarray:
        """Return an array that must hold `n` whole numbers."""
        column = self[name]
        if column.shape != (n,) or column.dtype.kind not in "iu":
            raise self.damaged(f"{name} is not {n} whole numbers")
        return column

    def jpeg(self, index: int) -> bytes:
        """Return image `index` of the arrays `jpeg` and `offset`, still encoded."""
        offset = self["offset"]
        return bytes(self["jpeg"][offset[index] : offset[index + 1]].tobytes())

    def damaged(self, reason: object) -> StreamError:
        """Make the error that says this file is incomplete or damaged."""
        shown = one_line(self.path)
        return StreamError(
            f"{shown} is not a complete image pack ({one_line(reason, 100)}); copy it again"
        )

    def _guard(self, read: Callable[[zipfile.ZipFile], _T]) -> _T:
        try:
            with zipfile.ZipFile(self.path) as zipped:
                return read(zipped)
        except _DAMAGE as error:
            raise self.damaged(error) from None


def _array(zipped: zipfile.ZipFile, name: str) -> np.ndarray:
    with zipped.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _header(zipped: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with zipped.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f".npy version {version}")
        return tuple(readers[version](file)[0])
