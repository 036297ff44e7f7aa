"""Repair: a new database, built from the rows of a damaged one that are whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError, may_pass
from plr_edge.files import sync_folder
from plr_edge.store.database import FILE, LOG, Database
from plr_edge.store.folder import locked
from plr_edge.store.generation_files import entries_of_files, read_group
from plr_edge.store.generations import GenerationInfo
from plr_edge.store.labels import UNDONE, Label
from plr_edge.store.replacing import (
    BUILDING,
    damaged_databases,
    finish_repair,
    has_lost_database,
    offer,
)
from plr_edge.store.rows import MINOR, SCHEMA, Damage, DamagedError, Row, meta, refuse_newer
from plr_edge.store.salvage import salvaged, schema_in_header
from plr_edge.store.store import Store

_GROUPS = {"adaptive", "classifier", "learning", "facts"}


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What a state holds after a repair.

    Attributes:
        labels: number of labels.
        latents: number of labels whose latents are held.
        generations: number of generations.
        labels_lost: number of labels that could not be saved.
        changed: whether anything had to be repaired.
    """

    labels: int
    latents: int
    generations: int
    labels_lost: int
    changed: bool


def repair(path: str | Path) -> RepairReport:
    """Build a new database from the rows and files that are whole, unless nothing is damaged.

    The damaged one is kept beside it, as `damaged-NANOSECONDS.db`, until the next repair.

    Raises:
        StateError: there is nothing to repair, it is a newer version's, another process holds it,
            or the disk refuses; then nothing was changed.
    """
    path = Path(path)
    if not (path / FILE).is_file() and not has_lost_database(path):
        raise StateError(f"{path} holds no state; nothing to repair")
    try:
        return _whole(path)
    except DamagedError:
        pass
    lock = locked(path)
    try:
        if not finish_repair(path):
            return _repaired(path)
    finally:
        os.close(lock)
    return _whole(path)


def _whole(path: Path) -> RepairReport:
    """Open a state whose database is whole, and discard generations that are damaged."""
    with Store(path) as store:
        damage = sorted(store.generations.damage())
        if damage:
            store.generations.discard(damage, "damaged")
        return RepairReport(
            labels=len(store.labels),
            latents=store.labels.n_latents,
            generations=len(store.generations),
            labels_lost=0,
            changed=bool(damage),
        )


def _repaired(path: Path) -> RepairReport:
    before = damaged_databases(path)
    file = path / FILE
    if not file.exists() and before:
        file = before.pop()  # the power failed while an earlier repair replaced it
    rows = salvaged(file)
    facts = {str(key): json.loads(str(value)) for key, value in rows["meta"]}
    if (version := schema_in_header(file)) > SCHEMA:
        refuse_newer(file, version, str(facts.get("schema")))
    labels = [Label.from_row(row) for row in rows["labels"]]
    generations = _generations(path, rows["generations"], labels, facts)
    if generations:
        _complete(facts, path, generations[-1])
    last_seq = max(
        int(facts.get("last_seq", 0)),
        *(label.seq for label in labels[-1:]),
        *(int(row[0]) for row in rows["latents"][-1:]),
        *(int(row[1]) for row in generations),
    )
    lost = max(0, last_seq - int(facts.get("n_deleted", 0)) - len(labels))
    facts |= {"schema": SCHEMA, "schema_minor": MINOR}
    facts |= {"last_seq": last_seq, "n_deleted": last_seq - len(labels)}
    kept = {label.seq for label in labels}
    latents, contents = (
        [row for row in rows[table] if row[0] in kept] for table in ("latents", "contents")
    )
    number = max((int(row[0]) for row in rows["events"]), default=0) + 1
    event = (number, time.time_ns(), "repaired", f"{lost} labels lost")
    try:
        _build(path, {
            "meta": meta(facts), "labels": rows["labels"], "latents": latents,
            "events": [*rows["events"], event], "generations": generations,
            "requests": rows["requests"], "contents": contents,
        })  # fmt: skip
        offer(path)
    except (OSError, DamagedError) as error:
        raise StateError(
            f"cannot write {path / BUILDING}: {error}; nothing was changed",
            can_pass=may_pass(error),
        ) from None
    finish_repair(path)
    for old in before:
        for end in ("", LOG):
            with suppress(OSError):
                Path(f"{old}{end}").unlink()
    return RepairReport(
        labels=len(labels),
        latents=len(latents),
        generations=len(generations),
        labels_lost=lost,
        changed=True,
    )


def _generations(
    path: Path, rows: list[Row], labels: list[Label], facts: dict[str, Any]
) -> list[Row]:
    """Return rows of generations whose files are whole.

    Files that no row names may have learned labels that were undone later. They count only if the
    rows are lost and no label was undone, or if there are no labels at all.
    """
    entries = entries_of_files(path)
    named = [row for row in rows if _same(json.loads(row[4]), entries.get(int(row[0]), {}))]
    untouched = not facts.get("n_deleted") and all(label.status != UNDONE for label in labels)
    if not rows and (untouched or not labels):
        unnamed = [_row(path, number, own) for number, own in sorted(entries.items())]
        named = [row for row in unnamed if row is not None]
    return named


def _complete(facts: dict[str, Any], path: Path, newest: Row) -> None:
    """Take facts that were lost from those of the newest generation."""
    own = json.loads(read_group(path, json.loads(newest[4])["facts"])["json"].tobytes())
    names = ("bundle", "frozen_sha256", "codec")
    if "identity" not in facts and all(name in own for name in names):
        facts["identity"] = {name: own[name] for name in names}
    facts.setdefault("release", own.get("release", 0))
    facts["last_generation"] = max(int(facts.get("last_generation", 0)), int(newest[0]))


def _same(named: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return all(there.get(group) == entry for group, entry in named.items())


def _row(path: Path, number: int, entries: Mapping[str, Any]) -> Row | None:
    """Return the row of a generation that has only its files left; None if one is missing."""
    if not set(entries) >= _GROUPS:
        return None
    with suppress(Damage, KeyError, ValueError):
        own = json.loads(read_group(path, entries["facts"])["json"].tobytes())
        in_use = tuple(own["in_use"])
        return GenerationInfo(number, own["upto"], time.time_ns(), in_use, dict(entries)).to_row()
    return None


def _build(path: Path, rows: Mapping[str, list[Row]]) -> None:
    """Write a database under another name, and wait until all of it is durable."""
    _remove_unfinished(path)
    try:
        database = Database(path, BUILDING)
        try:
            with database.transaction() as tx:
                for table, own in rows.items():
                    tx.put(table, own)
            database.checkpoint()
        finally:
            database.close()
        if (path / f"{BUILDING}{LOG}").exists():
            raise OSError(0, "its log could not be merged into it")
        with open(path / BUILDING, "rb") as file:
            os.fsync(file.fileno())
        sync_folder(path)
    except BaseException:
        _remove_unfinished(path)
        raise


def _remove_unfinished(path: Path) -> None:
    for end in ("", LOG):
        with suppress(OSError):
            (path / f"{BUILDING}{end}").unlink()
