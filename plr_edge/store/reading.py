"""Reading a store that another command wrote; and saving what is whole of a damaged one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.store.database import FILE, Damage, Database
from plr_edge.store.folder import locked
from plr_edge.store.generations import State, entries_of_files, read_group
from plr_edge.store.labels import Label
from plr_edge.store.store import SCHEMA, Store


def read_state(path: str | Path, groups: tuple[str, ...] | None = None) -> State:
    """Read the newest generation of a directory and verify every byte that is read.

    Raises:
        StateError: there is none, it is damaged, or another process holds it.
    """
    with opened_for_reading(path) as store:
        state = store.read(groups)
        if state is None:
            raise StateError(
                "; ".join([*store.notes, f"{path} holds no generation that could answer"])
                + f"; make one with `plr-edge adapt --state {path}`"
            )
        return state


@contextmanager
def opened_for_reading(path: str | Path, *, check_latents: bool = False) -> Iterator[Store]:
    """Open a store that must be there; where nothing can be written, a copy of it in memory.

    Raises:
        StateError: there is none, or it cannot be read.
    """
    path = Path(path)
    if not (path / FILE).is_file() and not (path / "state.json").exists():
        raise StateError(f"{path} holds no state; make one with `plr-edge adapt --state {path}`")
    if os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY:
        with Store(path, check_latents=check_latents) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="plr-edge-") as copy:
        shutil.copytree(path, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock"))
        with Store(copy, check_latents=check_latents) as store:
            yield store


def repair(path: str | Path) -> dict[str, int]:
    """Build the database anew from the rows and files that are still whole.

    The damaged one is kept beside it, as `damaged-NANOSECONDS.db`.

    Returns:
        How many labels, latents and generations were saved, and how many labels were lost.

    Raises:
        StateError: there is nothing to repair, or another process holds it.
    """
    path = Path(path)
    if not (path / FILE).is_file():
        raise StateError(f"{path} holds no state; nothing to repair")
    lock = locked(path)
    try:
        rows = _readable_rows(path)
        aside = path / f"damaged-{time.time_ns()}.db"
        for end in ("", "-wal"):
            with suppress(FileNotFoundError):
                os.replace(f"{path / FILE}{end}", f"{aside}{end}")
        return _rebuilt(path, rows)
    finally:
        os.close(lock)


def _readable_rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    tables = ("meta", "labels", "latents", "generations", "events")
    try:
        database = Database(path)
    except (Damage, StateError):
        return {table: [] for table in tables}
    try:
        return {table: list(database.readable(table)) for table in tables}
    finally:
        database.close()


def _rebuilt(path: Path, rows: dict[str, list[tuple[object, ...]]]) -> dict[str, int]:
    meta = {str(key): json.loads(str(value)) for key, value in rows["meta"]}
    labels = [Label.from_row(row) for row in rows["labels"]]
    last_seq = max([int(meta.get("last_seq", 0)), *(label.seq for label in labels)])
    lost = last_seq - int(meta.get("n_deleted", 0)) - len(labels)
    generations = []
    for number, entries in entries_of_files(path).items():
        with suppress(Damage, KeyError, ValueError):
            facts = json.loads(read_group(path, entries["facts"])["json"].tobytes())
            if {"adaptive", "classifier", "learning"} <= set(entries):
                in_use = json.dumps(facts["in_use"])
                row = (number, facts["upto"], time.time_ns(), in_use, json.dumps(entries))
                generations.append(row)
                identity = {key: facts[key] for key in ("bundle", "frozen_sha256", "codec")}
                meta.setdefault("identity", identity)
                last_seq = max(last_seq, int(facts["upto"]))
    meta |= {"schema": SCHEMA, "last_seq": last_seq, "n_deleted": last_seq - len(labels)}
    event = (len(rows["events"]) + 1, time.time_ns(), "repaired", f"{lost} labels lost")
    database = Database(path)
    try:
        with database.transaction():
            database.put("meta", [(key, json.dumps(value)) for key, value in meta.items()])
            for table in ("labels", "latents", "events"):
                database.put(table, rows[table])
            database.put("generations", generations)
            database.put("events", [event])
    finally:
        database.close()
    return {
        "labels": len(labels),
        "latents": len(rows["latents"]),
        "generations": len(generations),
        "labels_lost": max(lost, 0),
    }
