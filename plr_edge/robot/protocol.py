"""Messages between perception and trainer: JSON facts and plain arrays, never code.

What is large, a candidate of megabytes, goes by shared memory: it is looked at where the trainer
wrote it, and copied by nobody.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

Message = tuple[str, dict[str, Any], dict[str, np.ndarray]]
_HEAD = struct.Struct("<I")
_ALIGN = 64
_DTYPES = ("float32", "int64", "int32", "uint8")
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def pack(kind: str, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return one message."""
    shapes = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    head = json.dumps({"kind": kind, "arrays": shapes, "facts": facts}).encode()
    parts = [_HEAD.pack(len(head)) + head]
    for array in arrays.values():
        parts += [_padding(sum(map(len, parts))), np.ascontiguousarray(array).tobytes()]
    return b"".join(parts)


def unpack(data: bytes | mmap.mmap) -> Message:
    """Return kind, facts and arrays of a message; the arrays lie in `data`.

    Raises:
        ValueError: it is none, or holds a value that is not finite.
    """
    try:
        (n,) = _HEAD.unpack_from(data)
        head = json.loads(data[4 : 4 + n])
        at, arrays = 4 + n, dict[str, np.ndarray]()
        for name, (dtype, shape) in head["arrays"].items():
            if dtype not in _DTYPES:
                raise ValueError(f"array {name!r} is of no type that is allowed")
            at += len(_padding(at))
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
            at += arrays[name].nbytes
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"array {name!r} holds a value that is not finite")
        return head["kind"], head["facts"], arrays
    except (struct.error, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no message ({error})") from None


class SharedMessage:
    """A message in memory that another process of the same user can look into."""

    def __init__(self, message: bytes) -> None:
        """Write it; from then on nobody can change it."""
        self._file = os.memfd_create("parcel", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
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


def _padding(n_bytes: int) -> bytes:
    return bytes(-n_bytes % _ALIGN)
