"""Reading untrusted safetensors: limits first, then the parser, then the values.

Works on bytes only. A memory-mapped file that shrinks meanwhile would kill the process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

_MAX_HEADER_BYTES = 1 << 20
_MAX_TENSORS = 4096
_MAX_DIMENSIONS = 8
_NAME = re.compile(r"[A-Za-z0-9_.]{1,128}")
_DTYPES = ("F32", "F16", "I64", "I32", "U8", "BOOL")


def write_tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of a safetensors file."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Read arrays from the bytes of a safetensors file.

    Raises:
        ValueError: the file is damaged, exceeds a limit, or holds a value that is not finite.

    Example:
        >>> data = write_tensors({"x": np.arange(3, dtype=np.float32)})
        >>> read_tensors(data)["x"].tolist()
        [0.0, 1.0, 2.0]
    """
    _check_header(data)
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(" ".join(str(error).split())[:120]) from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"tensor {name!r} holds a value that is not finite")
    return arrays


def _check_header(data: bytes) -> None:
    n_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or n_bytes > min(_MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"the header is longer than the file, or than {_MAX_HEADER_BYTES} bytes")
    try:
        header = json.loads(data[8 : 8 + n_bytes].decode(), object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(header, dict) or len(header) > _MAX_TENSORS:
        raise ValueError(f"the header is not a table of at most {_MAX_TENSORS} tensors")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not _NAME.fullmatch(name):
            raise ValueError(f"a tensor has the name {name[:40]!r}")
        if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
            raise ValueError(f"tensor {name!r} has a type that is not one of {', '.join(_DTYPES)}")
        if not isinstance(entry.get("shape"), list) or len(entry["shape"]) > _MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has no valid shape")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, but refuse duplicate keys; an `object_pairs_hook` for `json.loads`.

    Raises:
        ValueError: a key appears twice.
    """
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice")
    return table
