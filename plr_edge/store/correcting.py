"""Corrections of a store: what learned from a label that is taken back is deleted with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.store.database import FILE, LOG, Database
from plr_edge.store.events import Events
from plr_edge.store.facts import Facts
from plr_edge.store.generation_files import holds, remove_files
from plr_edge.store.generations import Generations
from plr_edge.store.label_log import LabelLog
from plr_edge.store.labels import LEARNED, QUARANTINED, UNDONE
from plr_edge.store.replacing import expendable
from plr_edge.store.requests import RequestLog, TeachRequest
from plr_edge.store.rows import ranges


class Corrections:
    """The part of `Store` that takes labels back; each change is one transaction."""

    path: Path
    labels: LabelLog
    generations: Generations
    events: Events
    facts: Facts
    requests: RequestLog
    _database: Database

    def confirm(self, seqs: Sequence[int]) -> list[int]:
        """Teach quarantined labels after all, as new ones; see `review`."""
        return self.review(seqs, ())[0]

    def review(
        self, right: Sequence[int], wrong: Sequence[int], request: TeachRequest | None = None
    ) -> tuple[list[int], list[int]]:
        """Teach some quarantined labels after all, as new ones, and undo others, in one step.

        Args:
            right: labels to teach.
            wrong: labels to undo.
            request: the request that asks for it, to be answered without a change next time.

        Returns:
            Old places of those that are taught, without those whose latents were evicted, and
            places of those that are undone.
        """
        quarantined = list(self.labels.with_contents(QUARANTINED))
        held = self.labels.with_latents([x for x in quarantined if x.seq in set(right)])
        dropped = [x for x in quarantined if x.seq in set(wrong)]
        with self._database.transaction() as tx:
            self.labels.put(tx, [*held, *dropped], status=UNDONE)
            if held:
                self.events.add(tx, "confirmed", ranges([x.seq for x in held]))
            if dropped:
                self.events.add(tx, UNDONE, f"dropped: {ranges([x.seq for x in dropped])}")
            self.labels.append(tx, [replace(x, status=LEARNED) for x in held])
            self.requests.add(tx, request, [*held, *dropped])
        return [x.seq for x in held], [x.seq for x in dropped]

    def mark(
        self,
        seqs: Sequence[int],
        status: str,
        reason: str,
        request: TeachRequest | None = None,
        *,
        without: int | None = None,
    ) -> list[int]:
        """Give labels another status; generations that learned from them are deleted.

        Generation `without` stays: it was written without them.

        Returns:
            The labels that changed.
        """
        wanted = set(seqs)
        changed = [x for x in self.labels if x.seq in wanted and x.status != status]
        if not changed:
            return []
        learned = [x.seq for x in changed if x.status == LEARNED]
        with self._database.transaction() as tx:
            self.labels.put(tx, changed, status=status)
            if learned:
                late = [info.number for info in self.generations if info.upto >= min(learned)]
                late = [number for number in late if number != without]
                self.generations.delete(tx, late, reason)
            self.events.add(tx, status, f"{reason}: {ranges([x.seq for x in changed])}")
            self.requests.add(tx, request, changed)
        self.generations.tidy()
        return [x.seq for x in changed]

    def no_older(self) -> str:
        """Return why `rollback` cannot go back a generation; empty if it can."""
        kept = [info.number for info in self.generations]
        if len(kept) > 1 or kept == [1]:
            return ""
        return (
            f"{self.path} holds no generation older than the newest; the bundle as exported is one "
            "step further (`plr-edge rollback --exported`), and undoes every label"
        )

    def rollback(self, request: TeachRequest | None = None, *, exported: bool = False) -> int:
        """Go back to the generation before the newest; labels after it are undone.

        Before the first generation there is the bundle as exported, which knows no label.

        Args:
            request: the request that asks for it, to be answered without a change next time.
            exported: go back to the bundle as exported, whatever generations there are.

        Returns:
            How many labels that were.

        Raises:
            StateError: there is no older generation.
        """
        kept = list(self.generations)
        if not exported and (trouble := self.no_older()):
            raise StateError(trouble)
        back = kept[-2] if len(kept) > 1 and not exported else None
        gone = [info.number for info in (kept[-1:] if back else kept)]
        late = [x for x in self.labels.read(back.upto if back else 0) if x.status == LEARNED]
        with self._database.transaction() as tx:
            self.labels.put(tx, late, status=UNDONE)
            tx.delete("generations", gone)
            where = f"generation {back.number}" if back else "the bundle as exported"
            text = f"to {where}; {len(late)} labels undone"
            self.events.add(tx, "rollback", text)
            self.requests.add(tx, request, late)
        self.generations.tidy()
        return len(late)

    def forget(
        self, name: str, request: TeachRequest | None = None, *, without: int | None = None
    ) -> int | None:
        """Delete every trace of a class, and the generations that learned it.

        Traces are its labels, latents and answered requests; the name where another label was
        answered with it or came from a folder of that name; and what `repair` kept of a damaged
        database. Generation `without` stays: it was written without the class.

        Returns:
            How many labels were deleted; None if there was no trace of the class.

        Raises:
            StateError: the disk refuses, or it is deleted but files that may hold it are not.
        """
        labels = [x for x in self.labels if x.name == name]
        own = [x.seq for x in labels]
        late = {info.number for info in self.generations if own and info.upto >= own[0]}
        late = (late | set(self.generations.knowing(name))) - {without}
        with self._database.transaction() as tx:
            self.requests.move_old(tx)
            self.labels.delete(tx, own)
            n_traces = len(own) + len(late)
            n_traces += self.labels.redact(tx, name) + self.requests.forget(tx, name)
            n_traces += self.facts.forget_positions(tx, name)
            self.generations.delete(tx, sorted(late), "a class was forgotten")
            if n_traces:
                self.events.add(tx, "forget", f"{len(own)} labels of one class deleted")
                self.requests.add(tx, request, labels)
        files = [*self.generations.stray(), *expendable(self.path)]
        if not n_traces and not any(holds(file, name) for file in files):
            return None
        left = remove_files(files)
        if not self._database.checkpoint():
            left.append(self.path / f"{FILE}{LOG}")
        if left:
            raise StateError(
                f"{len(own)} labels are deleted, but their class may still stand in "
                f"{', '.join(map(str, left))}; free some space, check who owns these files, and "
                "forget it again"
            )
        return len(own)
