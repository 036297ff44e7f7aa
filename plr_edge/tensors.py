"""Safetensors from bytes that nobody vouches for: limits first, then the parser, then the values.

Never opens a file by name and never maps one: a file that shrinks under a map kills the process.
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
    """Return arrays as safetensors."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Read safetensors.

    Raises:
        ValueError: they are damaged, beyond the limits, or hold a value that is not finite.
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
        raise ValueError("the header is longer than the file, or than any of ours")
    try:
        header = json.loads(data[8 : 8 + n_bytes].decode(), object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("the header is nested too deep") from None
    if not isinstance(header, dict) or len(header) > _MAX_TENSORS:
        raise ValueError(f"the header is no table of at most {_MAX_TENSORS} tensors")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not _NAME.fullmatch(name):
            raise ValueError(f"a tensor is called {name[:40]!r}")
        if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
            raise ValueError(f"tensor {name!r} is of no type that is allowed: {_DTYPES}")
        if not isinstance(entry.get("shape"), list) or len(entry["shape"]) > _MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has no shape")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, refusing a key that stands twice.

    Raises:
        ValueError: one does.
    """
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice")
    return table
