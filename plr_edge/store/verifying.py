"""Verifying a database as it is opened: damage is found here, before it can be used."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.store.database import FILE, Database
from plr_edge.store.facts import Facts
from plr_edge.store.replacing import has_lost_database
from plr_edge.store.rows import MINOR, SCHEMA, DamagedError


def refuse_unusable(path: Path) -> None:
    """Refuse a directory that an older version wrote, or that has lost its database.

    Raises:
        StateError: it is one of them.
    """
    if (path / "state.json").exists():
        raise StateError(
            f"{path} was written by an older version; learn it again into another --state"
        )
    if has_lost_database(path):
        raise DamagedError(f"{path} has lost {FILE}; `plr-edge repair {path}` saves what is whole")


def verify(database: Database, facts: Facts, *, check_latents: bool) -> None:
    """Read every row once.

    Args:
        database: just opened.
        facts: its facts.
        check_latents: read latents too.

    Raises:
        DamagedError: a row does not match its checksum, or some are missing.
        StateError: it is of another version.
    """
    pages = database.quick_check()
    if pages != "ok":
        raise database.damaged(f"{database.file} is damaged ({pages})")
    _check_schema(database, facts)
    n_labels = sum(1 for _ in database.rows("labels"))
    expected = facts.last_seq - int(facts.get("n_deleted", 0))
    if n_labels != expected:
        raise database.damaged(f"{database.file} holds {n_labels} labels of {expected}")
    tables = ["generations", "events", "requests", "contents"]
    for table in [*tables, *(["latents"] if check_latents else [])]:
        deque(database.rows(table), maxlen=0)


def _check_schema(database: Database, facts: Facts) -> None:
    schema = facts.get("schema")
    if schema is None and facts.last_seq == 0:
        facts.keep(schema=SCHEMA, schema_minor=MINOR, last_seq=0)
    elif schema != SCHEMA:
        raise StateError(
            f"{database.file.parent} has schema {schema!r}; this version reads {SCHEMA}"
        )
