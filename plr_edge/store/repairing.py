"""Repair: a database built anew from what is whole of a damaged one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError
from plr_edge.files import sync_folder
from plr_edge.store.corrections import DAMAGED
from plr_edge.store.database import FILE, LOG, SCHEMA, Database, refuse_newer
from plr_edge.store.folder import DamagedError, locked
from plr_edge.store.generations import any_file, entries_of_files, read_group
from plr_edge.store.labels import UNDONE, Label
from plr_edge.store.replacing import BUILDING, finish_repair, offer
from plr_edge.store.rows import Damage, Row, meta
from plr_edge.store.salvage import salvaged, schema_in_header
from plr_edge.store.store import Store

_GROUPS = {"adaptive", "classifier", "learning", "facts"}


def repair(path: str | Path) -> dict[str, int]:
    """Build the database anew from the rows and files that are still whole, unless it is whole.

    The damaged one is kept beside it, as `damaged-NANOSECONDS.db`, until the next repair.

    Returns:
        How many labels, latents and generations there are now, how many labels were lost, and
        whether anything had to be done.

    Raises:
        StateError: there is nothing to repair, it is a newer version's, another process holds it,
            or the disk refuses; then nothing was changed.
    """
    path = Path(path)
    if not (path / FILE).is_file() and not (path.is_dir() and any_file(path)):
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


def _whole(path: Path) -> dict[str, int]:
    """Return the figures of a store that opens; generations that are damaged are let go."""
    with Store(path) as store:
        damage = sorted(store.damage())
        if damage:
            store.discard(damage, "damaged")
        n_labels = sum(1 for _ in store.labels())
        n_latents = int(store._database.value("SELECT count(*) FROM latents"))
        return _figures(n_labels, n_latents, len(store.generations()), 0, bool(damage))


def _repaired(path: Path) -> dict[str, int]:
    file = path / FILE
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
    facts |= {"schema": SCHEMA, "last_seq": last_seq, "n_deleted": last_seq - len(labels)}
    kept = {label.seq for label in labels}
    latents = [row for row in rows["latents"] if row[0] in kept]
    number = max((int(row[0]) for row in rows["events"]), default=0) + 1
    event = (number, time.time_ns(), "repaired", f"{lost} labels lost")
    try:
        _build(path, {
            "meta": meta(facts), "labels": rows["labels"], "latents": latents,
            "events": [*rows["events"], event], "generations": generations,
        })  # fmt: skip
        before = list(path.glob(DAMAGED))
        offer(path)
    except (OSError, Damage) as error:
        raise StateError(f"cannot write {path / BUILDING}: {error}; nothing was changed") from None
    finish_repair(path)
    for old in before:
        with suppress(OSError):
            old.unlink()
    return _figures(len(labels), len(latents), len(generations), lost, True)


def _figures(
    n_labels: int, n_latents: int, n_generations: int, n_lost: int, changed: bool
) -> dict[str, int]:
    return {
        "labels": n_labels,
        "latents": n_latents,
        "generations": n_generations,
        "labels_lost": n_lost,
        "changed": int(changed),
    }


def _generations(
    path: Path, rows: list[Row], labels: list[Label], facts: dict[str, Any]
) -> list[Row]:
    """Return rows of generations whose files are whole.

    Files that no row names may have learned what was taken back later. They count only where the
    rows are gone and nothing was taken back, or where there is nothing else.
    """
    entries = entries_of_files(path)
    named = [row for row in rows if _same(json.loads(row[4]), entries.get(int(row[0]), {}))]
    untouched = not facts.get("n_deleted") and all(label.status != UNDONE for label in labels)
    if not rows and (untouched or not labels):
        unnamed = [_row(path, number, own) for number, own in sorted(entries.items())]
        named = [row for row in unnamed if row is not None]
    return named


def _complete(facts: dict[str, Any], path: Path, newest: Row) -> None:
    """Add facts that were lost from those of the newest generation."""
    own = json.loads(read_group(path, json.loads(newest[4])["facts"])["json"].tobytes())
    names = ("bundle", "frozen_sha256", "codec")
    if "identity" not in facts and all(name in own for name in names):
        facts["identity"] = {name: own[name] for name in names}
    facts.setdefault("release", own.get("release", 0))
    facts["last_generation"] = max(int(facts.get("last_generation", 0)), int(newest[0]))


def _same(named: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return all(there.get(group) == entry for group, entry in named.items())


def _row(path: Path, number: int, entries: Mapping[str, Any]) -> Row | None:
    """Return the row of a generation of which only the files are left; None if one is missing."""
    if not set(entries) >= _GROUPS:
        return None
    with suppress(Damage, KeyError, ValueError):
        own = json.loads(read_group(path, entries["facts"])["json"].tobytes())
        in_use = json.dumps(own["in_use"])
        return (number, own["upto"], time.time_ns(), in_use, json.dumps(entries))
    return None


def _build(path: Path, rows: Mapping[str, list[Row]]) -> None:
    """Write a whole database under another name, and wait until it is durable."""
    _remove_unfinished(path)
    try:
        database = Database(path, BUILDING)
        try:
            with database.transaction():
                for table, own in rows.items():
                    database.put(table, own)
            database.checkpoint()
        finally:
            database.close()
        if (path / f"{BUILDING}{LOG}").exists():
            raise OSError(0, "its log could not be folded in")
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
