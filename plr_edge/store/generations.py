"""Generations: numbered, immutable sets of weights, each there as a whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError, may_pass
from plr_edge.store.database import Database
from plr_edge.store.events import Events
from plr_edge.store.facts import Facts, WriteCounter
from plr_edge.store.generation_files import (
    FOLDER,
    Arrays,
    State,
    generation_files,
    holds,
    read_group,
    remove_files,
    write_files,
)
from plr_edge.store.rows import Damage, Row, meta, packed, ranges
from plr_edge.store.transaction import Transaction

_KEPT = 2


@dataclass(frozen=True)
class GenerationInfo:
    """What the database knows of a generation.

    Attributes:
        number: from 1.
        upto: the last label it learned.
        time_ns: when it was committed.
        in_use: labels whose latents it needs.
        entries: name, digest and size of each file, by group.
    """

    number: int
    upto: int
    time_ns: int
    in_use: tuple[int, ...]
    entries: dict[str, dict[str, Any]]

    @classmethod
    def from_row(cls, row: Row) -> GenerationInfo:
        """Read a row of the table `generations`."""
        number, upto, time_ns, in_use, entries = row
        return cls(number, upto, time_ns, tuple(json.loads(in_use)), json.loads(entries))

    def to_row(self) -> Row:
        """Return the row of the table `generations`."""
        in_use, entries = json.dumps(self.in_use), json.dumps(self.entries)
        return (self.number, self.upto, self.time_ns, in_use, entries)

    @property
    def n_bytes(self) -> int:
        """Bytes of its files."""
        return sum(int(entry["bytes"]) for entry in self.entries.values())

    def to_dict(self) -> dict[str, int]:
        """Return what `plr-edge inspect` prints."""
        return {
            "generation": self.number,
            "labels_to": self.upto,
            "time_ns": self.time_ns,
            "bytes": self.n_bytes,
        }


class Generations:
    """The table `generations` and the files that it names."""

    def __init__(
        self, path: Path, database: Database, facts: Facts, events: Events, written: WriteCounter
    ) -> None:
        self.notes: list[str] = []  # generations that `read` found damaged
        self._path, self._database = path, database
        self._facts, self._events, self._written = facts, events, written

    def __iter__(self) -> Iterator[GenerationInfo]:
        """Yield the generations that are kept, oldest first."""
        return map(GenerationInfo.from_row, self._database.rows("generations"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def read(self, groups: tuple[str, ...] | None = None) -> State | None:
        """Return the newest generation that verifies, None if there is none.

        Args:
            groups: read only these groups of arrays.
        """
        for info in reversed(list(self)):
            try:
                arrays = {
                    group: read_group(self._path, entry)
                    for group, entry in info.entries.items()
                    if groups is None or group in (*groups, "facts")
                }
                facts = json.loads(arrays.pop("facts")["json"].tobytes())
            except (Damage, KeyError, ValueError) as error:
                self.notes.append(f"generation {info.number} is damaged ({error}); it is not used")
                continue
            return State(info.number, info.upto, facts, arrays, tuple(self.notes))
        return None

    def damage(self) -> dict[int, str]:
        """Read every file of every generation; returns what is wrong, by generation."""
        found = {}
        for info in self:
            for entry in info.entries.values():
                try:
                    read_group(self._path, entry)
                except Damage as error:
                    found[info.number] = str(error)
        return found

    def commit(
        self, facts: Mapping[str, Any], arrays: Arrays, upto: int, in_use: Sequence[int],
        reason: str,
    ) -> int:  # fmt: skip
        """Write a generation; see `Store.commit_generation`."""
        if self._database.refusal:
            raise StateError(self._database.refusal)
        highest = int(self._database.value("SELECT max(number) FROM generations") or 0)
        number = max(highest, int(self._facts.get("last_generation", 0))) + 1
        facts = {**facts, "upto": upto, "in_use": [int(seq) for seq in in_use]}
        try:
            entries = write_files(self._path, number, {**arrays, "facts": {"json": packed(facts)}})
        except OSError as error:
            self.tidy()
            raise StateError(
                f"cannot write state in {self._path}: {error.strerror}; what was acknowledged is "
                "safe; free some space and go on",
                can_pass=may_pass(error),
            ) from None
        new = GenerationInfo(number, upto, time.time_ns(), tuple(facts["in_use"]), entries)
        with self._database.transaction() as tx:
            old = [info.number for info in self]
            tx.put("generations", [new.to_row()])
            tx.delete("generations", old[: max(0, len(old) + 1 - _KEPT)])
            tx.put("meta", meta({"last_generation": number}))
            self._written.add(tx, new.n_bytes)
            self._events.add(tx, "published", f"generation {number}, labels to {upto} {reason}")
        self.tidy()
        return number

    def discard(self, numbers: Sequence[int], reason: str) -> None:
        """Delete generations; the labels that they learned are learned again."""
        with self._database.transaction() as tx:
            self.delete(tx, numbers, reason)
        self.tidy()

    def delete(self, tx: Transaction, numbers: Sequence[int], reason: str) -> None:
        """Delete rows of generations in a transaction; `tidy` then deletes their files."""
        if numbers:
            tx.delete("generations", numbers)
            self._events.add(tx, "dropped", f"generation {ranges(numbers)}: {reason}")

    def knowing(self, name: str) -> list[int]:
        """Return the generations that list a class, and damaged ones that hold its name."""
        found = []
        for info in self:
            try:
                facts = read_group(self._path, info.entries["facts"])["json"].tobytes()
                knows = name in json.loads(facts).get("classes", ())
            except (Damage, KeyError, ValueError):
                files = [self._path / FOLDER / str(e["name"]) for e in info.entries.values()]
                knows = any(holds(file, name) for file in files)
            if knows:
                found.append(info.number)
        return found

    def stray(self) -> list[Path]:
        """Return files that no row names."""
        kept = {entry["name"] for info in self for entry in info.entries.values()}
        return [file for file in generation_files(self._path) if file.name not in kept]

    def tidy(self) -> list[Path]:
        """Delete files that no row names; only after the rows are durable.

        Returns:
            Files that could not be deleted.
        """
        return remove_files(self.stray())
