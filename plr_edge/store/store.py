"""Store: what was learned, in a directory; one writer. Knows nothing of torch.

The unit of acknowledgement is the label: when `teach` returns, that label is durable. Weights are
snapshots, written when there is time, and are rebuilt from the labels after a crash.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError
from plr_edge.store.clock import Clock
from plr_edge.store.correcting import Corrections
from plr_edge.store.database import Database
from plr_edge.store.events import Events
from plr_edge.store.facts import Facts, WriteCounter
from plr_edge.store.folder import locked, make_folder, warn_of_place
from plr_edge.store.generation_files import FOLDER, Arrays
from plr_edge.store.generations import Generations
from plr_edge.store.label_log import LabelLog
from plr_edge.store.labels import UNDONE, Label
from plr_edge.store.place import trouble_of_disk
from plr_edge.store.replacing import RESTORED, finish_repair, refuse_restored, take_restored
from plr_edge.store.requests import RequestLog, TeachRequest
from plr_edge.store.rows import DamagedError, meta, ranges
from plr_edge.store.transaction import Transaction
from plr_edge.store.upgrading import upgrade
from plr_edge.store.verifying import refuse_unusable, verify

LABEL_BYTES = 64 << 20


class Store(Corrections):
    """What was learned, in a directory; only one process at a time may hold it.

    Its own methods change several of its parts in one transaction.

    Attributes:
        path: the directory.
        labels: what was taught.
        generations: the weights that were learned.
        events: what happened.
        facts: small values by name.
        clock: where the wall clock jumped.
        requests: answers to requests to teach that carried a key.
        notes: what is wrong with the state, a line each, for people.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        label_bytes: int = LABEL_BYTES,
        check_latents: bool = True,
        upgraded: bool = True,
    ) -> None:
        """Create the directory if needed, take its lock, and verify every row.

        Args:
            path: the directory.
            label_bytes: latents to keep, in bytes; the oldest that are not in use are evicted.
            check_latents: verify latents too, instead of each one when it is read.
            upgraded: rewrite a database that an earlier version made in the form of this one.

        Raises:
            StateError: it is not writable, is damaged beyond use, or another process holds it.
        """
        self.path, self.label_bytes = Path(path), label_bytes
        make_folder(self.path)
        warn_of_place(self.path)
        with ExitStack() as closing:
            closing.callback(os.close, locked(self.path))
            take_restored(self.path)
            finish_repair(self.path)
            refuse_unusable(self.path)
            if upgraded:
                upgrade(self.path)
            self._database = Database(self.path)
            closing.callback(self._database.close)
            self.facts, self.events = Facts(self._database), Events(self._database)
            self.clock = Clock(self._database, self.facts, self.events)
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
    def disk_trouble(self) -> str:
        """Why labels will be refused; empty if nothing is known."""
        return self.refusal or trouble_of_disk(self.path)

    @property
    def is_restore_offered(self) -> bool:
        """Whether `restore` has put another store beside this one; see `take_restored`."""
        return (self.path / RESTORED).is_dir()

    def take_restored(self) -> None:
        """Go on with the store that was offered in the place of this one.

        Raises:
            StateError: it was made with another frozen part or codec, or the disk refuses.
        """
        own = self.facts.get("identity")
        try:
            with Database(self.path / RESTORED) as offered:
                other = Facts(offered).get("identity")
            if None not in (own, other) and own != other:
                raise StateError("it was learned with another frozen part or codec")
        except StateError as error:
            refuse_restored(self.path, str(error))
            raise StateError(f"{self.path} was not restored: {error}") from None
        with self._database.lock:
            self._database.let_go()
            take_restored(self.path)
            self._last_safe = self.last_seq
        self.events.note("restored", f"{self.last_seq} labels of a backup")
        self.generations.tidy()

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

    def damage(self) -> list[str]:
        """Read every row and every file, and return what is wrong. It may be in use meanwhile."""
        try:
            with self._database.lock:
                verify(self._database, self.facts, check_latents=False)
            deque(self._database.rows("latents"), maxlen=0)
        except DamagedError as error:
            return [str(error)]
        return list(self.generations.damage().values())

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
