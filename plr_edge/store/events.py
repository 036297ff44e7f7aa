"""Events: what happened to a state, newest last; the oldest are evicted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from plr_edge.errors import StateError
from plr_edge.store.database import Database
from plr_edge.store.transaction import Transaction

_MAX_EVENTS = 5_000
_MAX_CHARACTERS = 300


class Events:
    """The table `events`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        """Yield time in nanoseconds, kind and text of each event, oldest first."""
        for _, time_ns, kind, text in self.numbered():
            yield time_ns, kind, text

    def numbered(self) -> Iterator[tuple[int, int, str, str]]:
        """Yield number, time in nanoseconds, kind and text of each event, oldest first."""
        for number, time_ns, kind, text in self._database.rows("events"):
            yield int(number), time_ns, kind, text

    @property
    def newest(self) -> int:
        """Number of the newest event. 0 if there is none."""
        return int(self._database.value("SELECT max(id) FROM events") or 0)

    def note(self, kind: str, text: str) -> bool:
        """Keep an event, if the disk takes it; work goes on if not.

        Returns:
            Whether it is kept.
        """
        with suppress(StateError):
            with self._database.transaction() as tx:
                self.add(tx, kind, text)
            return True
        return False

    def add(self, tx: Transaction, kind: str, text: str) -> None:
        """Keep an event with the other writes of a transaction."""
        newest = self.newest + 1
        tx.put("events", [(newest, time.time_ns(), kind, text[:_MAX_CHARACTERS])])
        if newest > _MAX_EVENTS:
            tx.delete("events", [newest - _MAX_EVENTS])
