"""Store: what was learned, in a directory; one writer. Knows nothing of torch.

The unit of acknowledgement is the label: when `teach` returns, that label is durable. Weights are
snapshots, written when there is time, and are rebuilt from the labels after a crash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError
from plr_edge.store.database import FILE, LOG, Database, Transaction
from plr_edge.store.events import Events
from plr_edge.store.facts import Facts, WriteCounter
from plr_edge.store.folder import locked, make_folder, warn_of_place
from plr_edge.store.generation_files import FOLDER, Arrays, holds, remove_files
from plr_edge.store.generations import Generations
from plr_edge.store.label_log import LabelLog
from plr_edge.store.labels import LEARNED, QUARANTINED, UNDONE, Label
from plr_edge.store.replacing import expendable, finish_repair
from plr_edge.store.requests import RequestLog, TeachRequest
from plr_edge.store.rows import meta, ranges
from plr_edge.store.verifying import refuse_unusable, verify

LABEL_BYTES = 64 << 20


class Store:
    """What was learned, in a directory; only one process at a time may hold it.

    Its own methods change several of its parts in one transaction.

    Attributes:
        path: the directory.
        labels: what was taught.
        generations: the weights that were learned.
        events: what happened.
        facts: small values by name.
        requests: answers to requests to teach that carried a key.
        notes: what is wrong with the state, a line each, for people.
    """

    def __init__(
        self, path: str | Path, *, label_bytes: int = LABEL_BYTES, check_latents: bool = True
    ) -> None:
        """Create the directory if needed, take its lock, and verify every row.

        Args:
            path: the directory.
            label_bytes: latents to keep, in bytes; the oldest that are not in use are evicted.
            check_latents: verify latents too, instead of each one when it is read.

        Raises:
            StateError: it is not writable, is damaged beyond use, or another process holds it.
        """
        self.path, self.label_bytes = Path(path), label_bytes
        make_folder(self.path)
        warn_of_place(self.path)
        with ExitStack() as closing:
            closing.callback(os.close, locked(self.path))
            finish_repair(self.path)
            refuse_unusable(self.path)
            self._database = Database(self.path)
            closing.callback(self._database.close)
            self.facts, self.events = Facts(self._database), Events(self._database)
            self.requests = RequestLog(self._database)
            self._written = WriteCounter(self.facts)
            self.labels = LabelLog(self._database, self.facts, self._written)
            self.generations = Generations(
                self.path, self._database, self.facts, self.events, self._written
            )
            self.notes = self.generations.notes
            verify(self._database, self.facts, check_latents=check_latents)
            self._last_safe = 0  # the last label that is not in doubt
            self._database.on_begin = self._undo_refused
            self.requests.upgrade()
            self.generations.tidy()
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Fold the log into the database, and give the lock back."""
        self._closing.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def freeze(self, reason: str, after_close: Callable[[], None]) -> None:
        """Refuse every change from now on.

        Args:
            reason: the text of the error that a change raises.
            after_close: called once the store is closed.
        """
        self._database.refusal = reason
        closing = ExitStack()
        closing.callback(after_close)
        closing.callback(self._closing.pop_all().close)
        self._closing = closing

    @property
    def refusal(self) -> str:
        """Why nothing can be changed; empty if it can."""
        return self._database.refusal

    @property
    def last_seq(self) -> int:
        """Number of labels ever acknowledged."""
        return self.facts.last_seq

    @property
    def n_bytes(self) -> int:
        """Bytes of the directory."""
        files = [*self.path.iterdir(), *(self.path / FOLDER).iterdir()]
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def written_today(self) -> int:
        """Bytes written in the last 24 hours, as the device counts them if Linux says so."""
        return self._written.today

    # learning

    def teach(
        self, labels: Sequence[Label], *, request: TeachRequest | None = None, **facts: Any
    ) -> list[int]:
        """Make labels durable; when this returns they survive any crash.

        Args:
            labels: with their latents.
            request: the request that they came with, to be answered without teaching next time.
            facts: values to keep in the same step, e.g. the position in a stream.

        Returns:
            Their places in the order of teaching.

        Raises:
            StateError: the disk refuses; none of them was taken.
        """
        with self._database.transaction() as tx:
            placed = self.labels.append(tx, labels)
            tx.put("meta", meta(facts))
            if request is not None:
                self.requests.add(tx, request, placed)
        return [label.seq for label in placed]

    def commit_generation(
        self,
        facts: Mapping[str, Any],
        arrays: Arrays,
        *,
        upto: int | None = None,
        in_use: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """Write a generation; when this returns, it is what `generations.read` returns.

        Latents and labels beyond what may be kept are evicted.

        Args:
            facts: metadata that fits JSON.
            arrays: by group, then by name.
            upto: the last label it learned; the last of all by default.
            in_use: labels whose latents it needs.
            reason: why it was written, for the log.

        Returns:
            Its number.

        Raises:
            StateError: the disk refuses; what was there before is still there.
        """
        upto = self.last_seq if upto is None else upto
        number = self.generations.commit(facts, arrays, upto, in_use, reason)
        kept = list(self.generations)
        all_in_use = {seq for info in kept for seq in info.in_use}
        self.labels.evict(kept[0].upto, all_in_use, self.label_bytes)
        return number

    # corrections: what learned from a label that is taken back is deleted with it

    def confirm(self, seqs: Sequence[int]) -> list[int]:
        """Teach quarantined labels after all, as new ones.

        Returns:
            Their old places, without those of labels whose latents were evicted.
        """
        wanted = set(seqs)
        quarantined = [x for x in self.labels.with_contents(QUARANTINED) if x.seq in wanted]
        held = self.labels.with_latents(quarantined)
        with self._database.transaction() as tx:
            self.labels.put(tx, held, status=UNDONE)
            self.events.add(tx, "confirmed", ranges([x.seq for x in held]))
            self.labels.append(tx, [replace(x, status=LEARNED) for x in held])
        return [x.seq for x in held]

    def mark(
        self, seqs: Sequence[int], status: str, reason: str, *, without: int | None = None
    ) -> list[int]:
        """Give labels another status; generations but `without` that learned from them are deleted.

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
        self.generations.tidy()
        return [x.seq for x in changed]

    def rollback(self) -> int:
        """Go back to the generation before the newest; labels after it are undone.

        Returns:
            How many labels that were.

        Raises:
            StateError: there is no older generation.
        """
        kept = list(self.generations)
        if len(kept) < 2:
            raise StateError(f"{self.path} holds no generation older than the newest")
        back, newest = kept[-2:]
        late = [x for x in self.labels.read(back.upto) if x.status == LEARNED]
        with self._database.transaction() as tx:
            self.labels.put(tx, late, status=UNDONE)
            tx.delete("generations", [newest.number])
            text = f"to generation {back.number}; {len(late)} labels undone"
            self.events.add(tx, "rollback", text)
        self.generations.tidy()
        return len(late)

    def forget(self, name: str, *, without: int | None = None) -> int | None:
        """Delete every trace of a class, and the generations that learned it.

        Traces are its labels, latents and answered requests; the name where another label was
        answered with it or came from a folder of that name; and what `repair` kept of a damaged
        database. Generation `without` stays: it was written without the class.

        Returns:
            How many labels were deleted; None if there was no trace of the class.

        Raises:
            StateError: the disk refuses, or it is deleted but files that may hold it are not.
        """
        own = [x.seq for x in self.labels if x.name == name]
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

    # inside

    def _undo_refused(self, tx: Transaction, in_doubt: bool) -> None:
        """Undo labels that were refused because a commit failed, if it left them behind."""
        if not in_doubt:
            self._last_safe = self.last_seq
            return
        ghosts = list(self.labels.read(self._last_safe))
        self.labels.put(tx, ghosts, status=UNDONE)
        self.requests.delete_after(tx, self._last_safe)
        if ghosts:
            self.events.add(tx, UNDONE, f"refused: {ranges([x.seq for x in ghosts])}")
