"""Reading untrusted safetensors: limits first, then the parser, then the values.

Opens no files. A memory-mapped file that shrinks would kill the process, so `view_tensors`
is for memory whose size is sealed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from plr_edge.errors import one_line

_MAX_HEADER_BYTES = 1 << 20
_MAX_TENSORS = 4096
_MAX_DIMENSIONS = 8
_MAX_SIDE = (1 << 31) - 1
_NAME = re.compile(r"[A-Za-z0-9_.]{1,128}")
_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}


def write_tensors(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return arrays as the bytes of a safetensors file, with metadata in its header."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save(contiguous, None if metadata is None else dict(metadata))


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
        raise ValueError(one_line(error, 120)) from None
    _check_finite(arrays)
    return arrays


def view_tensors(data: bytes | memoryview) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read arrays without copying: they are read-only views of `data`.

    Args:
        data: the bytes of a safetensors file.

    Returns:
        arrays: arrays by name.
        metadata: metadata of the header.

    Raises:
        ValueError: the file is damaged, exceeds a limit, or holds a value that is not finite.
    """
    header = _check_header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("the metadata is not a table of strings")
    start, end = 8 + int.from_bytes(data[:8], "little"), 0
    arrays = {}
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        first, last = _offsets(name, entry)
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
        if not all(type(side) is int and 0 <= side <= _MAX_SIDE for side in shape):
            raise ValueError(f"tensor {name!r} has no valid shape")
        n_bytes = math.prod(shape) * dtype.itemsize
        if first != end or last != first + n_bytes or start + last > len(data):
            raise ValueError(f"the offsets of tensor {name!r} do not match its shape")
        arrays[name] = np.frombuffer(data, dtype, math.prod(shape), start + first).reshape(shape)
        end = last
    if start + end != len(data):
        raise ValueError("the file has bytes that belong to no tensor")
    _check_finite(arrays)
    return arrays, metadata


def _offsets(name: str, entry: dict[str, Any]) -> tuple[int, int]:
    found = entry.get("data_offsets")
    if not isinstance(found, list) or [type(x) for x in found] != [int, int]:
        raise ValueError(f"tensor {name!r} has no offsets")
    return found[0], found[1]


def _check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"tensor {name!r} holds a value that is not finite")


def _check_header(data: bytes | memoryview) -> dict[str, Any]:
    n_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or n_bytes > min(_MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(f"the header is longer than the file, or than {_MAX_HEADER_BYTES} bytes")
    try:
        header = json.loads(bytes(data[8 : 8 + n_bytes]).decode(), object_pairs_hook=unique_keys)
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
    return header


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, but refuse duplicate keys; an `object_pairs_hook` for `json.loads`.

    Raises:
        ValueError: a key appears twice.
    """
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice")
    return table


def with_prefix(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put `PREFIX.` in front of the names of arrays."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def without_prefix(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with `PREFIX.`, under the rest of their names."""
    start = f"{prefix}."
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
