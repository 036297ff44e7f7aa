"""Base of a store: its directory, facts, events and sizes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError
from plr_edge.files import device_bytes_written
from plr_edge.store.database import Database
from plr_edge.store.folder import damage_as_error
from plr_edge.store.generations import FOLDER
from plr_edge.store.rows import meta

_MAX_EVENTS = 5_000
_EVENT_CHARACTERS = 300
_DAY_NS = 86_400 * 10**9


class Base:
    """What the parts of a store share."""

    path: Path
    notes: list[str]
    refusal = ""  # why nothing may be changed, where that is so
    _database: Database
    _device_bytes = 0  # that this process had written when they were last counted

    # facts

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact that was kept with `teach`, `publish` or `keep`."""
        with damage_as_error(self.path):
            rows = list(self._database.rows("meta", "key = ?", (key,)))
        return json.loads(rows[0][1]) if rows else default

    def keep(self, **facts: Any) -> None:
        """Keep facts that fit JSON."""
        with self._transaction() as database:
            database.put("meta", meta(facts))

    @property
    def last_seq(self) -> int:
        """Number of labels ever acknowledged."""
        return int(self.get("last_seq", 0))

    # events

    def note(self, kind: str, text: str) -> None:
        """Keep an event; a disk that refuses it is no reason to stop."""
        with suppress(StateError), self._transaction() as database:
            self._note(database, kind, text)

    def events(self) -> list[tuple[int, str, str]]:
        """Return time, kind and text of what happened, oldest first."""
        with damage_as_error(self.path):
            return [(row[1], row[2], row[3]) for row in self._database.rows("events")]

    # sizes

    @property
    def n_bytes(self) -> int:
        """Bytes of the directory."""
        files = [*self.path.iterdir(), *(self.path / FOLDER).iterdir()]
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def written_today(self) -> int:
        """Bytes written in the last 24 hours, as the device counts them where that is known."""
        day = self.get("written", {})
        old = time.time_ns() - day.get("since_ns", 0) >= _DAY_NS
        return 0 if old else int(day["bytes"])

    # inside

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        if self.refusal:
            raise StateError(self.refusal)
        with damage_as_error(self.path), self._database.transaction() as database:
            yield database

    def _note(self, database: Database, kind: str, text: str) -> None:
        newest = int(database.value("SELECT max(id) FROM events") or 0) + 1
        database.put("events", [(newest, time.time_ns(), kind, text[:_EVENT_CHARACTERS])])
        if newest > _MAX_EVENTS:
            database.delete("events", [newest - _MAX_EVENTS])

    def _written(self, n_bytes: int) -> dict[str, int]:
        """Return the counter of the day with some bytes more.

        Args:
            n_bytes: that are given to the disk; what reaches the device is more, and is counted
                instead where Linux tells.
        """
        now, day = time.time_ns(), self.get("written") or {}
        if now - day.get("since_ns", 0) >= _DAY_NS:
            day = {"since_ns": now, "bytes": 0}
        since = min(day["since_ns"], now)  # a clock that went back must not hold the day open
        device = device_bytes_written() or 0
        n_bytes, self._device_bytes = max(n_bytes, device - self._device_bytes), device
        return {"since_ns": since, "bytes": day["bytes"] + n_bytes}
