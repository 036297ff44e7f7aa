"""Messages between perception and trainer: JSON facts and safetensors, never code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from plr_edge.tensors import read_tensors, write_tensors

_HEAD = struct.Struct("<I")


def pack(kind: str, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return one message."""
    head = json.dumps({"kind": kind, **facts}).encode()
    return _HEAD.pack(len(head)) + head + write_tensors(arrays)


def unpack(data: bytes) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Return kind, facts and arrays of a message.

    Raises:
        ValueError: it is none, or holds a value that is not finite.
    """
    (n,) = _HEAD.unpack_from(data)
    facts = json.loads(data[4 : 4 + n])
    return facts.pop("kind"), facts, read_tensors(data[4 + n :])


def group(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with `NAME.`, without that."""
    return {n[len(name) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{name}.")}


def named(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Put `NAME.` before the names of arrays."""
    return {f"{name}.{n}": a for n, a in arrays.items()}
