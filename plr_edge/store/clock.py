"""Clock: where the wall clock jumped, so that spans of time mean what they say.

A board without a clock of its own starts in 1970, or where it was switched off, until the network
tells it the time. Labels and events keep the time that they were stamped with. The jumps are kept
beside them, and are added whenever a time is shown or compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from plr_edge.files import read_text
from plr_edge.store.database import Database
from plr_edge.store.events import Events
from plr_edge.store.facts import BOOT_ID, Facts
from plr_edge.store.labels import Label
from plr_edge.store.rows import meta

_JUMP_NS = 2 * 10**9  # smaller ones are corrections
_MAX_JUMPS = 200


def boot_ns() -> int:
    """Return nanoseconds since the machine was switched on, suspended or not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Clock:
    """The jumps of the wall clock while a robot used the state, and between its starts.

    A jump is kept as `[first label, last label, first event, last event, by_ns]`: what was stamped
    by the clock of then, and by how much that was wrong.
    """

    def __init__(self, database: Database, facts: Facts, events: Events) -> None:
        """Watch nothing yet. `watch` does."""
        self._database, self._facts, self._events = database, facts, events
        self._offset_ns: int | None = None

    def watch(self, boot_id: Path = BOOT_ID) -> None:
        """Compare the clock with what it was when this state was last in use, and remember it.

        Call it once at the start, and again about once a second. Only what changed is written.

        Raises:
            StateError: the disk refuses.
        """
        now_ns = time.time_ns()
        offset_ns = now_ns - boot_ns()
        if self._offset_ns is None:
            self._begin(offset_ns, now_ns, read_text(boot_id) or "")
        elif abs(offset_ns - self._offset_ns) > _JUMP_NS:
            self._jumped(offset_ns)
        self._offset_ns = offset_ns

    @property
    def jumps(self) -> list[list[int]]:
        """What was stamped wrongly and by how much, oldest first."""
        return [list(map(int, jump)) for jump in self._facts.get("clock", {}).get("jumps", [])]

    def corrected(self, labels: Iterable[Label]) -> Iterator[Label]:
        """Yield labels with the times that a right clock would have stamped."""
        jumps = self.jumps
        for label in labels:
            by_ns = sum(by for first, last, _, _, by in jumps if first <= label.seq <= last)
            yield replace(label, time_ns=label.time_ns + by_ns) if by_ns else label

    def corrected_events(self) -> Iterator[tuple[int, str, str]]:
        """Yield events as `Events` does, with the times that a right clock would have stamped."""
        jumps = self.jumps
        for number, time_ns, kind, text in self._events.numbered():
            by_ns = sum(by for _, _, first, last, by in jumps if first <= number <= last)
            yield time_ns + by_ns, kind, text

    def _begin(self, offset_ns: int, now_ns: int, boot: str) -> None:
        kept = self._facts.get("clock", {})
        if kept.get("boot") == boot and boot:
            self._offset_ns = int(kept["offset_ns"])
            if abs(offset_ns - self._offset_ns) > _JUMP_NS:
                self._jumped(offset_ns)
            return
        facts: dict[str, Any] = {
            "boot": boot,
            "offset_ns": offset_ns,
            "first": [self._facts.last_seq + 1, self._events.newest + 1],
            "jumps": kept.get("jumps", []),
        }
        newest_ns = max((at for at, _, _ in self.corrected_events()), default=0)
        with self._database.transaction() as tx:
            if newest_ns - now_ns > _JUMP_NS:
                behind = f"{_span(newest_ns - now_ns)} before the newest entry"
                self._events.add(tx, "clock", f"the clock of this start is {behind}")
                facts["first"][1] += 1
            tx.put("meta", meta({"clock": facts}))

    def _jumped(self, offset_ns: int) -> None:
        """Keep that everything of this boot was stamped by a clock that was wrong."""
        assert self._offset_ns is not None
        by_ns, kept = offset_ns - self._offset_ns, self._facts.get("clock", {})
        (label, event), last = kept.get("first", [1, 1]), self._facts.last_seq
        jump = [label, last, event, self._events.newest, by_ns]
        facts = {**kept, "offset_ns": offset_ns, "jumps": [*self.jumps, jump][-_MAX_JUMPS:]}
        before = datetime.fromtimestamp((boot_ns() + self._offset_ns) / 1e9)
        now = datetime.fromtimestamp((boot_ns() + offset_ns) / 1e9)
        way = "forward" if by_ns > 0 else "back"
        text = f"jumped {way} by {_span(abs(by_ns))}, from {before:%F %T} to {now:%F %T}"
        with self._database.transaction() as tx:
            self._events.add(tx, "clock", f"{text}, after label {last}")
            tx.put("meta", meta({"clock": facts}))


def _span(ns: int) -> str:
    """Write a span of time in the unit that fits it."""
    for unit, size in (("days", 86_400e9), ("hours", 3_600e9), ("minutes", 60e9)):
        if ns >= size:
            return f"{ns / size:.1f} {unit}"
    return f"{ns / 1e9:.1f} seconds"
