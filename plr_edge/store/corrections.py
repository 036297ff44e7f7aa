"""Corrections: labels undone, confirmed or forgotten, and generations rolled back.

What learned from a label that is taken back is let go in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from plr_edge.errors import StateError
from plr_edge.store.database import Database
from plr_edge.store.folder import damage_as_error
from plr_edge.store.labels import LEARNED, QUARANTINED, UNDONE
from plr_edge.store.publishing import Publishing
from plr_edge.store.rows import meta, ranges
from plr_edge.store.teaching import REQUEST, Teaching

DAMAGED = "damaged-*.db*"  # what `repair` has set aside
_NOBODY = "unknown"  # what is kept in place of a forgotten class


class Corrections(Teaching, Publishing):
    """The part of a store that takes back."""

    def confirm(self, seqs: Sequence[int]) -> list[int]:
        """Teach quarantined labels after all, as new ones.

        Returns:
            Their old places, but those of labels whose latents were let go.
        """
        wanted = set(seqs)
        held = self.with_latents([x for x in self.labels(status=QUARANTINED) if x.seq in wanted])
        with self._transaction() as database:
            database.put("labels", (replace(x, status=UNDONE).to_row(x.seq) for x in held))
            self._note(database, "confirmed", ranges([x.seq for x in held]))
            self._insert(database, [replace(x, status=LEARNED) for x in held])
        return [x.seq for x in held]

    def mark(self, seqs: Sequence[int], status: str, reason: str) -> list[int]:
        """Give labels another status; generations that learned from them are let go.

        Returns:
            The labels that changed.
        """
        wanted = set(seqs)
        changed = [x for x in self.labels() if x.seq in wanted and x.status != status]
        if not changed:
            return []
        touched = [x.seq for x in changed if x.status == LEARNED]
        with self._transaction() as database:
            database.put("labels", (replace(x, status=status).to_row(x.seq) for x in changed))
            if touched:
                self._drop_generations(database, min(touched), reason)
            self._note(database, status, f"{reason}: {ranges([x.seq for x in changed])}")
        self._tidy()
        return [x.seq for x in changed]

    def forget(self, name: str) -> int:
        """Delete every trace of a class: labels, latents, and generations that learned it.

        Returns:
            How many labels that were.
        """
        labels = list(self.labels())
        seqs = [x.seq for x in labels if x.name == name]
        if not seqs:
            return 0
        mistaken = [x for x in labels if x.predicted == name and x.name != name]
        with self._transaction() as database:
            database.delete("labels", seqs)
            database.delete("latents", seqs)
            database.put("labels", (replace(x, predicted=_NOBODY).to_row(x.seq) for x in mistaken))
            database.delete("meta", self._requests_about(name))
            database.put("meta", meta({"n_deleted": self.get("n_deleted", 0) + len(seqs)}))
            self._drop_generations(database, min(seqs), "a class was forgotten")
            self._note(database, "forget", f"{len(seqs)} labels of one class deleted")
        self._tidy()
        for file in self.path.glob(DAMAGED):
            with suppress(OSError):
                file.unlink()
        self._database.checkpoint()
        return len(seqs)

    def rollback(self) -> int:
        """Go back to the generation before the newest; labels after it are set aside as undone.

        Returns:
            The number of labels set aside.

        Raises:
            StateError: there is no older generation.
        """
        generations = self._generations()
        if len(generations) < 2:
            raise StateError(f"{self.path} holds no generation older than the newest")
        number, upto = generations[-2][:2]
        aside = [x for x in self.labels(int(upto)) if x.status == LEARNED]
        with self._transaction() as database:
            database.put("labels", (replace(x, status=UNDONE).to_row(x.seq) for x in aside))
            database.delete("generations", [generations[-1][0]])
            self._note(database, "rollback", f"to generation {number}; {len(aside)} labels undone")
        self._tidy()
        return len(aside)

    def _drop_generations(self, database: Database, from_seq: int, reason: str) -> None:
        late = [row[0] for row in database.rows("generations", "upto >= ?", (from_seq,))]
        if late:
            database.delete("generations", late)
            self._note(database, "dropped", f"generation {ranges(late)}: {reason}")

    def _requests_about(self, name: str) -> list[str]:
        with damage_as_error(self.path):
            rows = list(self._database.rows("meta"))
        return [k for k, v in rows if k.startswith(REQUEST) and json.dumps(name) in v]
