"""Files of generations: written once under a unique name, synced, never replaced.

Knows bytes, digests and folders; the database knows which of them count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.files import read_regular, sync_folder, write_new
from plr_edge.store.rows import Damage
from plr_edge.tensors import read_tensors, write_tensors

FOLDER = "generations"
_NAME = re.compile(r"(\d{6,})\.([a-z]+)\.([0-9a-f]{16})\.safetensors")
Arrays = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class State:
    """One generation, verified.

    Attributes:
        generation: number, from 1.
        upto: the last label it learned.
        facts: metadata that its writer gave, from JSON.
        arrays: by group (`adaptive`, `classifier`, ...), then by name.
        notes: newer generations that were found damaged, one line each.
    """

    generation: int
    upto: int
    facts: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]]
    notes: tuple[str, ...] = ()


def write_files(path: Path, number: int, arrays: Arrays) -> dict[str, dict[str, Any]]:
    """Write the groups of a generation, and wait until the device has them and their names.

    Returns:
        Name, digest and size of each file, by group.
    """
    folder = path / FOLDER
    entries = {}
    for group, members in arrays.items():
        data = write_tensors(members)
        digest = _digest(data)
        name = f"{number:06d}.{group}.{digest[:16]}.safetensors"
        (folder / name).unlink(missing_ok=True)  # left by a crash before any row named it
        write_new(folder / name, data)
        entries[group] = {"name": name, "blake2b": digest, "bytes": len(data)}
    sync_folder(folder)
    return entries


def read_group(path: Path, entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read one group: bytes, digest over these bytes, then the parser on these bytes.

    Raises:
        Damage: it is not what was written.
    """
    file = path / FOLDER / str(entry["name"])
    try:
        data = read_regular(file)
    except OSError as error:
        raise Damage(f"{file} cannot be read ({error.strerror})") from None
    if _digest(data) != entry["blake2b"]:
        raise Damage(f"{file} does not match its digest")
    try:
        return read_tensors(data)
    except ValueError as error:
        raise Damage(f"{file}: {error}") from None


def entries_of_files(path: Path) -> dict[int, dict[str, dict[str, Any]]]:
    """Return what `write_files` returned, by number, from the files alone; for repair.

    Files whose bytes do not match the digest in their name are left out.
    """
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for file, (number, group, start) in _files(path):
        with suppress(OSError):
            data = read_regular(file)
            digest = _digest(data)
            if digest.startswith(start):
                entry = {"name": file.name, "blake2b": digest, "bytes": len(data)}
                found.setdefault(int(number), {})[group] = entry
    return found


def generation_files(path: Path) -> list[Path]:
    """Return the files that are named like those of a generation."""
    return [file for file, _ in _files(path)]


def remove_files(files: Iterable[Path]) -> list[Path]:
    """Delete files; returns those that could not be deleted."""
    left = []
    for file in files:
        try:
            file.unlink()
        except OSError:
            left.append(file)
    return left


def holds(file: Path, name: str) -> bool:
    """Return whether a file holds a class name, as text or in JSON."""
    with suppress(OSError):
        data = read_regular(file)
        return name.encode() in data or json.dumps(name).encode() in data
    return False


def _files(path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Return the files named like those of a generation, with the parts of their names."""
    with suppress(FileNotFoundError):
        matches = [(file, _NAME.fullmatch(file.name)) for file in sorted((path / FOLDER).iterdir())]
        return [(file, match.groups()) for file, match in matches if match]
    return []


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()
