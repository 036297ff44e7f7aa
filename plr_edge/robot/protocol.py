"""Messages between perception and trainer: safetensors whose header holds kind and facts.

Plain arrays and JSON, never code. What is large, a candidate of megabytes, goes by shared memory:
perception looks at it where the trainer wrote it, and nobody copies it.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from plr_edge.tensors import view_tensors, write_tensors

Message = tuple[str, dict[str, Any], dict[str, np.ndarray]]
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def pack(kind: str, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return one message."""
    return write_tensors(arrays, {"kind": kind, "facts": json.dumps(facts)})


def unpack(data: bytes | mmap.mmap) -> Message:
    """Return kind, facts and arrays of a message; the arrays are views of `data`.

    Raises:
        ValueError: it is not a message, or holds a value that is not finite.
    """
    arrays, metadata = view_tensors(data)
    try:
        facts = json.loads(metadata["facts"])
    except (LookupError, RecursionError) as error:
        raise ValueError(f"not a message ({error})") from None
    if "kind" not in metadata or not isinstance(facts, dict):
        raise ValueError("not a message: it lacks a kind, or its facts are no table")
    return metadata["kind"], facts, arrays


class SharedMessage:
    """A message in memory that another process of the same user can look into."""

    def __init__(self, message: bytes) -> None:
        """Write it; from then on nobody can change it."""
        self._file = os.memfd_create("message", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        view = memoryview(message)
        while view:
            view = view[os.write(self._file, view) :]
        fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, _SEALS)

    @property
    def place(self) -> str:
        """Where `opened` finds it, while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def close(self) -> None:
        """Let go of it; who has opened it keeps it."""
        os.close(self._file)


def opened(place: str) -> Message:
    """Look into a parcel.

    Raises:
        ValueError: it is gone, or no message.
    """
    try:
        with open(place, "rb") as file:
            return unpack(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ))
    except OSError as error:
        raise ValueError(f"a parcel is gone ({error.strerror})") from None


def group(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with `NAME.`, without that."""
    return {n[len(name) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{name}.")}


def named(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Put `NAME.` before the names of arrays."""
    return {f"{name}.{n}": a for n, a in arrays.items()}
