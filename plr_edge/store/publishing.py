"""Publishing: generations of weights, each there as a whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from plr_edge.errors import StateError
from plr_edge.store.base import Base
from plr_edge.store.folder import damage_as_error
from plr_edge.store.generations import Arrays, State, read_group, remove_files, write_files
from plr_edge.store.rows import Damage, Row, meta, packed, ranges

_KEPT_GENERATIONS = 2
MAX_LABELS = 100_000


class Publishing(Base):
    """The part of a store that holds generations."""

    label_bytes: int

    def publish(
        self,
        facts: Mapping[str, Any],
        arrays: Arrays,
        *,
        upto: int | None = None,
        in_use: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """Write a generation; when this returns, it is what will be read.

        Args:
            facts: that fit JSON.
            arrays: by group, then by name.
            upto: the last label it learned; the last of all by default.
            in_use: labels whose latents it needs.
            reason: why it was made.

        Returns:
            Its number.

        Raises:
            StateError: the disk refuses; what was there before is still there.
        """
        if self.refusal:
            raise StateError(self.refusal)
        number = int(self._database.value("SELECT max(number) FROM generations") or 0)
        number = max(number, int(self.get("last_generation", 0))) + 1
        upto = self.last_seq if upto is None else upto
        facts = {**facts, "upto": upto, "in_use": [int(seq) for seq in in_use]}
        try:
            entries = write_files(self.path, number, {**arrays, "facts": {"json": packed(facts)}})
        except OSError as error:
            self._tidy()
            raise StateError(
                f"cannot write state in {self.path}: {error.strerror}; what was acknowledged is "
                "safe; free some space and go on"
            ) from None
        self._name(number, upto, facts["in_use"], entries, reason)
        self._tidy()
        self._let_go()
        return number

    def _name(
        self, number: int, upto: int, in_use: list[int], entries: dict[str, Any], reason: str
    ) -> None:
        """Write the row of a generation whose files are durable."""
        row = (number, upto, time.time_ns(), json.dumps(in_use), json.dumps(entries))
        n_bytes = sum(entry["bytes"] for entry in entries.values())
        with self._transaction() as database:
            old = [r[0] for r in database.rows("generations")]
            database.put("generations", [row])
            database.delete("generations", old[: max(0, len(old) + 1 - _KEPT_GENERATIONS)])
            database.put(
                "meta", meta({"last_generation": number, "written": self._written(n_bytes)})
            )
            self._note(database, "published", f"generation {number}, labels to {upto} {reason}")

    def read(self, groups: tuple[str, ...] | None = None) -> State | None:
        """Return the newest generation that verifies, None where there is none."""
        for number, upto, _, _, files in reversed(self._generations()):
            try:
                arrays = {
                    group: read_group(self.path, entry)
                    for group, entry in json.loads(files).items()
                    if groups is None or group in (*groups, "facts")
                }
                facts = json.loads(arrays.pop("facts")["json"].tobytes())
            except (Damage, KeyError, ValueError) as error:
                self.notes.append(f"generation {number} is damaged ({error}); it is not used")
                continue
            return State(int(number), int(upto), facts, arrays, tuple(self.notes))
        return None

    def generations(self) -> list[dict[str, Any]]:
        """Return number, last label, time and bytes of what could be gone back to."""
        return [
            {
                "generation": number,
                "labels_to": upto,
                "time_ns": time_ns,
                "bytes": sum(entry["bytes"] for entry in json.loads(files).values()),
            }
            for number, upto, time_ns, _, files in self._generations()
        ]

    def damage(self) -> dict[int, str]:
        """Read every file of every generation; returns what is wrong, by generation."""
        found = {}
        for row in self._generations():
            for entry in json.loads(row[4]).values():
                try:
                    read_group(self.path, entry)
                except Damage as error:
                    found[int(row[0])] = str(error)
        return found

    @property
    def n_latent_bytes(self) -> int:
        """Bytes of the latents of past labels."""
        query = "SELECT coalesce(sum(length(record) + length(taps)), 0) FROM latents"
        return int(self._database.value(query))

    def discard(self, numbers: Sequence[int], reason: str) -> None:
        """Let go of generations; the labels that they learned are learned again."""
        with self._transaction() as database:
            database.delete("generations", numbers)
            self._note(database, "dropped", f"generation {ranges(numbers)}: {reason}")
        self._tidy()

    # inside

    def _generations(self) -> list[Row]:
        with damage_as_error(self.path):
            return list(self._database.rows("generations"))

    def _tidy(self) -> None:
        """Delete files that no row names; only after the rows are durable."""
        kept = {
            entry["name"] for row in self._generations() for entry in json.loads(row[4]).values()
        }
        with suppress(OSError):
            remove_files(self.path, kept)

    def _let_go(self) -> None:
        """Delete the oldest latents that nothing needs, and labels beyond any use."""
        generations = self._generations()
        safe = int(generations[0][1])
        in_use = {seq for row in generations for seq in json.loads(row[3])}
        excess = self.n_latent_bytes - self.label_bytes
        n_excess = int(self._database.value("SELECT count(*) FROM labels")) - MAX_LABELS
        if excess <= 0 and n_excess <= 0:
            return
        gone = []
        for seq, record, taps in self._database.rows("latents", "seq <= ?", (safe,)):
            if excess <= 0:
                break
            if seq not in in_use:
                gone.append(seq)
                excess -= len(record) + len(taps)
        old = [] if n_excess <= 0 else [
            row[0] for row in self._database.rows("labels", "seq <= ?", (safe,))
            if row[0] not in in_use
        ][:n_excess]  # fmt: skip
        with self._transaction() as database:
            database.delete("latents", [*gone, *old])
            database.delete("labels", old)
            if old:
                database.put("meta", meta({"n_deleted": self.get("n_deleted", 0) + len(old)}))
