"""Facts: small values by name, as JSON, and the count of bytes written today."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from plr_edge.files import device_bytes_written, read_text
from plr_edge.store.database import Database
from plr_edge.store.labels import without_folder
from plr_edge.store.rows import meta
from plr_edge.store.transaction import Transaction

_DAY_NS = 86_400 * 10**9
_SET_NS = 1_704_067_200 * 10**9  # the year 2024: a clock before it was never set
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


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
    """Bytes written in the last 24 hours, as the device counts them if Linux says so.

    The hours are those that the machine runs, whatever its clock says. The time that it was off is
    added as its clock tells, but never more than a day, and nothing if the clock went back or is
    not set.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._boot = read_text(BOOT_ID) or ""
        self._device_bytes = device_bytes_written() or 0  # by this process, at the last count

    @property
    def today(self) -> int:
        """Bytes written in the last 24 hours."""
        return int(self._day()["bytes"])

    def _day(self) -> dict[str, Any]:
        """Return what is known of the day, a new one if it is over."""
        kept = self._facts.get("written") or {}
        up_ns, wall_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        day = {"since_ns": wall_ns, "bytes": 0, "passed_ns": 0}
        now = {"boot": self._boot, "up_ns": up_ns, "wall_ns": wall_ns}
        if not kept:
            return {**day, **now}
        before_ns = int(kept.get("wall_ns", kept.get("since_ns", 0)))
        if kept.get("boot") == self._boot and self._boot:
            passed_ns = max(up_ns - int(kept["up_ns"]), 0)
        elif min(before_ns, wall_ns) < _SET_NS:
            passed_ns = up_ns
        else:
            passed_ns = min(max(wall_ns - before_ns, 0), _DAY_NS)
        passed_ns += int(kept.get("passed_ns", 0))
        if passed_ns >= _DAY_NS:
            return {**day, **now}
        since_ns = min(int(kept.get("since_ns", wall_ns)), wall_ns)  # earlier versions read it
        return {"since_ns": since_ns, "bytes": kept["bytes"], "passed_ns": passed_ns, **now}

    def add(self, tx: Transaction, n_bytes: int) -> None:
        """Count some bytes more.

        Args:
            tx: where to keep the count.
            n_bytes: given to the disk. More reaches the device, and is counted instead where Linux
                says how much.
        """
        day = self._day()
        device = device_bytes_written() or 0
        n_bytes, self._device_bytes = max(n_bytes, device - self._device_bytes), device
        tx.put("meta", meta({"written": {**day, "bytes": day["bytes"] + n_bytes}}))
