"""Messages between perception and trainer: safetensors with kind and facts in the header.

A message holds plain arrays and JSON, never code. A candidate has megabytes and goes through shared
memory: perception reads it where the trainer wrote it, without a copy.
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


def unpack(data: bytes | memoryview) -> Message:
    """Return kind, facts and arrays of a message; the arrays are views of `data`.

    Raises:
        ValueError: the bytes are not a message, or hold a value that is not finite.
    """
    arrays, metadata = view_tensors(data)
    try:
        facts = json.loads(metadata["facts"])
    except (LookupError, RecursionError) as error:
        raise ValueError(f"not a message ({error})") from None
    if "kind" not in metadata or not isinstance(facts, dict):
        raise ValueError("not a message: the kind is missing, or the facts are not a table")
    return metadata["kind"], facts, arrays


class SharedMessage:
    """A message in memory that another process of the same user can open."""

    def __init__(self, message: bytes) -> None:
        """Write the message, and seal it so that nobody can change it."""
        self._file = os.memfd_create("message", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        view = memoryview(message)
        while view:
            view = view[os.write(self._file, view) :]
        fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, _SEALS)

    @property
    def place(self) -> str:
        """Path for `opened`, valid until this process ends or closes the message."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def close(self) -> None:
        """Release the message. A process that has opened it keeps it."""
        os.close(self._file)


def opened(place: str) -> Message:
    """Open a shared message. The arrays are views of the shared memory.

    Raises:
        ValueError: the message was released, or is not a message.
    """
    try:
        with open(place, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
            return unpack(memoryview(mapped))
    except OSError as error:
        raise ValueError(f"the shared message is gone ({error.strerror})") from None


def group(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with `NAME.`, without this prefix."""
    return {n[len(name) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{name}.")}


def named(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Put `NAME.` before the names of arrays."""
    return {f"{name}.{n}": a for n, a in arrays.items()}
