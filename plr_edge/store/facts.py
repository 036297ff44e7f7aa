"""Facts: small values by name, as JSON, and the count of bytes written today."""

from __future__ import annotations

import json
import time
from typing import Any

from plr_edge.files import device_bytes_written
from plr_edge.store.database import Database
from plr_edge.store.labels import without_folder
from plr_edge.store.rows import meta
from plr_edge.store.transaction import Transaction

_DAY_NS = 86_400 * 10**9


class Facts:
    """The table `meta`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, default: Any = None) -> Any:
        """Return a fact, or `default` if there is none of that name."""
        rows = list(self._database.rows("meta", "key = ?", (name,)))
        return json.loads(rows[0][1]) if rows else default

    def keep(self, **facts: Any) -> None:
        """Make facts that fit JSON durable, in place of those of the same names.

        Raises:
            StateError: the disk refuses.
        """
        with self._database.transaction() as tx:
            tx.put("meta", meta(facts))

    def forget_positions(self, tx: Transaction, name: str) -> int:
        """Delete positions in streams whose path has a folder of this name; returns how many."""
        positions = self.get("positions", {})
        kept = {key: at for key, at in positions.items() if without_folder(name, key) == key}
        if len(kept) < len(positions):
            tx.put("meta", meta({"positions": kept}))
        return len(positions) - len(kept)

    @property
    def last_seq(self) -> int:
        """Number of labels ever acknowledged."""
        return int(self.get("last_seq", 0))


class WriteCounter:
    """Bytes written in the last 24 hours, as the device counts them if Linux says so."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._device_bytes = device_bytes_written() or 0  # by this process, at the last count

    @property
    def today(self) -> int:
        """Bytes written in the last 24 hours."""
        day = self._facts.get("written", {})
        is_over = time.time_ns() - day.get("since_ns", 0) >= _DAY_NS
        return 0 if is_over else int(day["bytes"])

    def add(self, tx: Transaction, n_bytes: int) -> None:
        """Count some bytes more.

        Args:
            tx: where to keep the count.
            n_bytes: given to the disk. More reaches the device, and is counted instead where Linux
                says how much.
        """
        now, day = time.time_ns(), self._facts.get("written") or {}
        if now - day.get("since_ns", 0) >= _DAY_NS:
            day = {"since_ns": now, "bytes": 0}
        since = min(day["since_ns"], now)  # a clock that went back must not hold the day open
        device = device_bytes_written() or 0
        n_bytes, self._device_bytes = max(n_bytes, device - self._device_bytes), device
        tx.put("meta", meta({"written": {"since_ns": since, "bytes": day["bytes"] + n_bytes}}))
