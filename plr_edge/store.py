"""What is learned, on disk: numbered generations, each whole or not there at all.

Knows files, digests and one commit point; nothing of torch, classes or frames.

    state.json                      the commit point: generation number, facts, sha256 of each file
    generation-000012.*.safetensors immutable; written and synced before state.json names them
    lock                            held by the one process that may write
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from plr_edge.bundle import sync_folder, write_synced
from plr_edge.errors import StateError

SCHEMA = 1
_MAX_JSON_BYTES = 64 << 20
_MAX_FILE_BYTES = 4 << 30


@dataclass(frozen=True)
class State:
    """One generation, verified.

    Attributes:
        generation: its number, from 1.
        facts: what the writer gave, from JSON.
        arrays: by group (`adaptive`, `classifier`, `memory`), then by name.
    """

    generation: int
    facts: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]]


class Store:
    """Write generations into a directory; only one process at a time may."""

    def __init__(self, path: str | Path) -> None:
        """Make the directory if needed, and take its lock.

        Raises:
            StateError: it cannot be written, or another process holds it.
        """
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[bytes] = open(self.path / "lock", "ab")
        except OSError as error:
            raise StateError(
                f"cannot write state in {self.path}: {error.strerror}; choose another --state"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateError(
                f"{self.path} is in use by another process; stop it, or choose another --state"
            ) from None

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def read(self) -> State | None:
        """Return the newest generation, None in a fresh directory."""
        return read_state(self.path) if (self.path / "state.json").exists() else None

    def write(
        self,
        generation: int,
        facts: dict[str, Any],
        arrays: Mapping[str, Mapping[str, np.ndarray]],
    ) -> None:
        """Write a generation; when this returns, it is what will be read.

        Raises:
            StateError: the disk refuses; what was there before is still there.
        """
        digests: dict[str, Any] = {}
        try:
            for group, members in arrays.items():
                data = save_safetensors({n: np.ascontiguousarray(a) for n, a in members.items()})
                name = f"generation-{generation:06d}.{group}.safetensors"
                write_synced(self.path / f"{name}.partial", data)
                os.replace(self.path / f"{name}.partial", self.path / name)
                digest = hashlib.sha256(data).hexdigest()
                digests[group] = {"name": name, "sha256": digest, "bytes": len(data)}
            manifest = {
                "schema": SCHEMA,
                "generation": generation,
                "files": digests,
                "facts": facts,
            }
            payload = json.dumps(manifest, indent=1).encode()
            sync_folder(self.path)
            write_synced(self.path / "state.json.partial", payload)
            os.replace(self.path / "state.json.partial", self.path / "state.json")
            sync_folder(self.path)
        except OSError as error:
            self._remove_all_but(self._current_files())
            raise StateError(
                f"cannot write state in {self.path}: {error.strerror}; "
                "the last generation is still whole; free some space and run again"
            ) from None
        self._remove_all_but({entry["name"] for entry in digests.values()})

    def _current_files(self) -> set[str]:
        with suppress(StateError):
            manifest = _read_manifest(self.path)
            return {entry["name"] for entry in manifest["files"].values()}
        return {file.name for file in self.path.glob("generation-*.safetensors")}

    def _remove_all_but(self, names: set[str]) -> None:
        for file in [*self.path.glob("generation-*"), *self.path.glob("*.partial")]:
            if file.name not in names:
                with suppress(OSError):
                    file.unlink()


def read_state(path: str | Path, groups: tuple[str, ...] | None = None) -> State:
    """Read the newest generation and verify every byte that is read.

    Args:
        path: the state directory.
        groups: of arrays to read; all by default.

    Raises:
        StateError: there is none, or it is damaged.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    arrays = {}
    try:
        for group, entry in manifest["files"].items():
            if groups is None or group in groups:
                arrays[group] = _read_group(path, entry)
        return State(int(manifest["generation"]), manifest["facts"], arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"{path}/state.json is not whole ({error!r}); restore a copy") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / "state.json"
    if not file.is_file():
        raise StateError(f"{path} holds no state; make one with `plr-edge adapt --state {path}`")
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("larger than any state")
        manifest = json.loads(file.read_bytes())
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ValueError("not a state")
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"cannot read {file} ({error}); restore a copy of {path}") from None
    if manifest.get("schema") != SCHEMA:
        raise StateError(
            f"{path} has schema {manifest.get('schema')!r}; this version reads {SCHEMA}"
        )
    return manifest


def _read_group(path: Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    name = str(entry["name"])
    if "/" in name or not name.startswith("generation-"):
        raise StateError(f"{path}/state.json names a file {name[:60]!r} that is none of ours")
    file = path / name
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise StateError(f"{file} is larger than {_MAX_FILE_BYTES} bytes; restore a copy")
        data = file.read_bytes()
    except OSError as error:
        raise StateError(f"cannot read {file}: {error.strerror}; restore a copy") from None
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise StateError(f"{file} does not match its sha256; restore a copy of {path}")
    return load_safetensors(data)
