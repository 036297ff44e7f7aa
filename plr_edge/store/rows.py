"""The tables of the database, and values as their rows hold them. Knows no SQLite."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import StateError

Row = tuple[Any, ...]
SCHEMA = 2
MINOR = 2  # counts tables added since; an older version ignores them and opens the state
# `salvage` tells the tables apart by their number of columns and whether their key is a number
TABLES = {
    "meta": ("key TEXT PRIMARY KEY", "value TEXT"),
    "labels": (
        "seq INTEGER PRIMARY KEY", "name TEXT", "predicted TEXT", "source TEXT", "time_ns INTEGER",
        "status TEXT", "use TEXT",
    ),
    "latents": ("seq INTEGER PRIMARY KEY", "record BLOB", "taps BLOB"),
    "contents": ("seq INTEGER PRIMARY KEY", "content BLOB"),
    "generations": (
        "number INTEGER PRIMARY KEY", "upto INTEGER", "time_ns INTEGER", "in_use TEXT",
        "files TEXT",
    ),
    "events": ("id INTEGER PRIMARY KEY", "time_ns INTEGER", "kind TEXT", "text TEXT"),
    "requests": (
        "id INTEGER PRIMARY KEY", "key TEXT", "name TEXT", "seq INTEGER", "time_ns INTEGER",
        "answer TEXT",
    ),
}  # fmt: skip
ADDED = {
    "requests",
    "contents",
}  # tables that the first states of this schema lack; a write adds them


class Damage(Exception):
    """A file or a page is not what was written."""


class DamagedError(StateError):
    """A state is damaged, in a way that `repair` fixes."""


def refuse_newer(file: Path, version: int, schema_row: str | None) -> None:
    """Refuse a store of a newer version, unless its own row says that the header is wrong.

    Raises:
        StateError: it is one.
    """
    if schema_row != str(SCHEMA):
        raise StateError(
            f"{file} has schema {version}; this version of plr-edge reads {SCHEMA}; update it, or "
            "choose another --state"
        )


def checksum(row: Row) -> int:
    """Return the CRC-32 of a row's values and their types."""
    crc = 0
    for value in row:
        data = value if isinstance(value, bytes) else repr(value).encode()
        crc = zlib.crc32(data, zlib.crc32(f"{type(value).__name__}{len(data)}:".encode(), crc))
    return crc


def key_of(table: str) -> str:
    """Return the name of a table's first column."""
    return TABLES[table][0].split()[0]


def meta(facts: Mapping[str, Any]) -> list[Row]:
    """Return rows of the table `meta`."""
    return [(key, json.dumps(value)) for key, value in facts.items()]


def packed(facts: Mapping[str, Any]) -> np.ndarray:
    """Return facts as an array of bytes."""
    return np.frombuffer(json.dumps(facts).encode(), np.uint8)


def ranges(seqs: Sequence[int]) -> str:
    """Write numbers as `3-7, 12`."""
    parts: list[list[int]] = []
    for seq in sorted(seqs):
        if parts and seq == parts[-1][1] + 1:
            parts[-1][1] = seq
        else:
            parts.append([seq, seq])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in parts)
