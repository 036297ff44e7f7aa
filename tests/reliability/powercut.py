"""What a disk may hold after a power cut, from the calls a program made before it.

A file's bytes are sure once the file was synced, a folder's entries once the folder was (model
`posix`), or once anything in the folder was (model `ext4`). Everything else may be there, or not,
or in part: nothing of it, all of it, a prefix with a torn last write, or any blocks in any order.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import scenario

_SECTOR, _BLOCK = 512, 4096
Snapshot = dict[str, bytes | None]  # path below the root; None is a folder


@dataclass(frozen=True)
class Op:
    kind: str  # create, write, truncate, sync, unlink, rename, mkdir, ack: first letters
    path: str
    data: bytes
    offset: int


@dataclass(frozen=True)
class _Change:
    kind: str  # add, remove; move, of a folder with all that is in it
    path: str
    number: int
    to: str = ""


@dataclass
class _File:
    sure: bytes
    pending: list[Op] = field(default_factory=list)


def read_log(log: Path, root: Path) -> list[Op]:
    data, at, ops = log.read_bytes(), 0, []
    head = struct.Struct("<cIIq")
    while at < len(data):
        kind, n_path, n_data, offset = head.unpack_from(data, at)
        at += head.size
        path = data[at : at + n_path].decode()
        at += n_path
        payload = data[at : at + n_data]
        at += n_data
        below = str(Path(path).relative_to(root)) if path else ""
        if kind == b"r":
            payload = str(Path(payload.decode()).relative_to(root)).encode()
        ops.append(Op(kind.decode(), below, payload, offset))
    return ops


def snapshot(root: Path) -> Snapshot:
    return {
        str(p.relative_to(root)): p.read_bytes() if p.is_file() else None
        for p in sorted(root.rglob("*"))
    }


def materialise(state: Snapshot, root: Path) -> None:
    root.mkdir(parents=True)
    for path in sorted(state):
        data = state[path]
        if data is None:
            (root / path).mkdir(parents=True, exist_ok=True, mode=0o700)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)


def digest(state: Snapshot) -> bytes:
    hashed = hashlib.blake2b(digest_size=16)
    for path in sorted(state):
        data = state[path]
        hashed.update(f"{path}\0{-1 if data is None else len(data)}\0".encode() + (data or b""))
    return hashed.digest()


class _Disk:
    """Sure and pending contents after some calls."""

    def __init__(self, start: Snapshot, model: str) -> None:
        self.model = model
        self.files: dict[int, _File] = {}
        self.names: dict[str, int] = {}  # as the program sees them; -1 is a folder
        self.sure_names: dict[str, int] = {}
        self.pending_names: list[_Change] = []
        for path, data in start.items():
            self.names[path] = self._new(data) if data is not None else -1
        self.sure_names = dict(self.names)

    def _new(self, data: bytes = b"") -> int:
        self.files[len(self.files)] = _File(data)
        return len(self.files) - 1

    def apply(self, op: Op) -> None:
        if op.kind in "cm":
            self.names[op.path] = self._new() if op.kind == "c" else -1
            self.pending_names.append(_Change("add", op.path, self.names[op.path]))
        elif op.kind == "u":
            self.pending_names.append(_Change("remove", op.path, self.names.pop(op.path)))
        elif op.kind == "r" and self.names[op.path] < 0:
            change = _Change("move", op.path, -1, op.data.decode())
            _rename(self.names, change)
            self.pending_names.append(change)
        elif op.kind == "r":
            number, to = self.names.pop(op.path), op.data.decode()
            self.names[to] = number
            self.pending_names += [_Change("add", to, number), _Change("remove", op.path, number)]
        elif op.kind in "wt":
            self.files[self.names[op.path]].pending.append(op)
        elif op.kind == "s":
            self._sync(op.path)

    def _sync(self, path: str) -> None:
        number = self.names.get(path, -1)
        folder = path if number == -1 else str(Path(path).parent)
        if number >= 0:
            file = self.files[number]
            file.sure, file.pending = _written(file.sure, file.pending), []
        if number == -1 or self.model == "ext4":
            rest = []
            for change in self.pending_names:
                if self.model == "ext4" or str(Path(change.path).parent) == folder:
                    _rename(self.sure_names, change)
                else:
                    rest.append(change)
            self.pending_names = rest

    def after_cut(self, how: str, rng: random.Random) -> Snapshot:
        names = dict(self.sure_names)
        for change in _some(self.pending_names, how, rng):
            _rename(names, change)
        state: Snapshot = {}
        for path, number in names.items():
            if any(str(p) not in names for p in Path(path).parents if str(p) != "."):
                continue  # its folder is not there
            state[path] = None if number < 0 else self._bytes(number, how, rng)
        return state

    def _bytes(self, number: int, how: str, rng: random.Random) -> bytes:
        file = self.files[number]
        if how == "blocks":
            return _written(file.sure, _blocks(file.pending, rng))
        chosen = _some(file.pending, how, rng)
        if how == "prefix" and chosen and chosen[-1].kind == "w":
            last = chosen[-1]
            torn = last.data[: rng.randrange(0, len(last.data) + 1, _SECTOR)]
            chosen = [*chosen[:-1], Op("w", last.path, torn, last.offset)]
        return _written(file.sure, chosen)


def states(
    ops: list[Op], start: Snapshot, model: str, rng: random.Random, share: float
) -> Iterator[tuple[Snapshot, list[dict[str, object]]]]:
    """Yield a share of the disks that a cut may leave, and what was acknowledged by then."""
    disk, printed = _Disk(start, model), b""
    for op in ops:
        if op.kind == "a":
            printed += op.data
        else:
            disk.apply(op)
        for how in ("none", "all", "prefix", "prefix", "blocks", "blocks", "blocks"):
            if rng.random() < share:
                yield disk.after_cut(how, rng), scenario.parse(printed)


def _some(items: list, how: str, rng: random.Random) -> list:
    if how == "none":
        return []
    if how == "all":
        return items
    if how == "prefix":
        return items[: rng.randint(0, len(items))]
    return [item for item in items if rng.random() < 0.5]


def _rename(names: dict[str, int], change: _Change) -> None:
    if change.kind == "add":
        names[change.path] = change.number
    elif change.kind == "move":
        for path in [p for p in names if f"{p}/".startswith(f"{change.path}/")]:
            names[change.to + path[len(change.path) :]] = names.pop(path)
    elif names.get(change.path) == change.number:
        del names[change.path]


def _blocks(pending: list[Op], rng: random.Random) -> list[Op]:
    """Cut writes into blocks and take some of them."""
    parts = []
    for op in pending:
        if op.kind == "t":
            parts.append(op)
            continue
        for at in range(0, len(op.data), _BLOCK):
            parts.append(Op("w", op.path, op.data[at : at + _BLOCK], op.offset + at))
    return [part for part in parts if rng.random() < 0.5]


def _written(data: bytes, ops: list[Op]) -> bytes:
    image = bytearray(data)
    for op in ops:
        if op.kind == "t":
            del image[op.offset :]
            image.extend(bytes(op.offset - len(image)))
        else:
            image.extend(bytes(max(0, op.offset + len(op.data) - len(image))))
            image[op.offset : op.offset + len(op.data)] = op.data
    return bytes(image)


# stores that break a rule, on purpose: the test must catch each


def _no_file_sync() -> None:
    import os

    from plr_edge.store import generation_files

    def write(file: Path, data: bytes) -> None:
        with open(file, "xb") as opened:
            os.write(opened.fileno(), data)

    generation_files.write_new = write


def _no_folder_sync() -> None:
    from plr_edge.store import generation_files

    generation_files.sync_folder = lambda path: None


def _unlink_first() -> None:
    from plr_edge.store import generations

    real = generations.write_files

    def write(path: Path, number: int, arrays: object) -> object:
        generations.remove_files(generations.generation_files(path))
        return real(path, number, arrays)

    generations.write_files = write


def _normal() -> None:
    from plr_edge.store import database

    database._PRAGMAS = tuple(p.replace("FULL", "NORMAL") for p in database._PRAGMAS)


def _repair_in_place() -> None:
    import os

    from plr_edge.store import repairing

    real = repairing._build

    def build(path: Path, rows: object) -> None:
        if (path / "store.db").exists():
            os.replace(path / "store.db", path / "damaged-1.db")
        real(path, rows)

    repairing._build = build


def _no_sync_of_a_bundle() -> None:
    from plr_edge.bundle import write as bundle_write

    bundle_write.sync_folder = lambda path: None


BROKEN: dict[str, Callable[[], None]] = {
    "no file sync": _no_file_sync,
    "no folder sync": _no_folder_sync,
    "unlink first": _unlink_first,
    "wal normal": _normal,
    "repair in place": _repair_in_place,
    "no sync of a bundle": _no_sync_of_a_bundle,
}
