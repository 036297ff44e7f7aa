"""Teaching: labels in, durable when `teach` returns; and out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.store.base import Base
from plr_edge.store.database import Database
from plr_edge.store.folder import damage_as_error
from plr_edge.store.labels import UNDONE, Label
from plr_edge.store.rows import meta, ranges

REQUEST = "key "  # begins the name of a fact that answers a request which may come again
_MAX_REQUESTS = 1_000


class Teaching(Base):
    """The part of a store that holds labels."""

    _acknowledged = _inserted = 0  # the last label that this process said was taken, and wrote
    _in_doubt = False  # whether a write failed since

    def teach(self, labels: Sequence[Label], **facts: Any) -> list[int]:
        """Make labels durable; when this returns they survive any crash.

        Args:
            labels: with their latents.
            facts: to keep in the same step, such as the position in a stream; of those whose
                name begins with `REQUEST` the newest thousand are kept.

        Returns:
            Their places in the order of teaching.

        Raises:
            StateError: the disk refuses; none of them was taken.
        """
        with self._transaction() as database:
            return self._insert(database, labels, facts)

    def labels(self, after: int = 0, status: str | None = None) -> Iterator[Label]:
        """Read labels in the order of teaching, without their latents."""
        where, values = "seq > ?", [after]
        if status:
            where, values = f"{where} AND status = ?", [after, status]  # type: ignore[list-item]
        with damage_as_error(self.path):
            for row in self._database.rows("labels", where, values):
                yield Label.from_row(row)

    def with_latents(self, labels: Sequence[Label]) -> list[Label]:
        """Return the labels whose latents are still held, with them."""
        found = []
        with damage_as_error(self.path):
            for label in labels:
                for _, record, taps in self._database.rows("latents", "seq = ?", (label.seq,)):
                    found.append(
                        replace(
                            label,
                            record=np.frombuffer(record, np.uint8),
                            taps=np.frombuffer(taps, np.float16),
                        )
                    )
        return found

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        with self._database.lock:
            try:
                with super()._transaction() as database:
                    if self._in_doubt:
                        self._take_back_refused(database)
                    yield database
            except BaseException:
                self._in_doubt, self._inserted = True, self._acknowledged
                raise
            self._in_doubt, self._acknowledged = False, self._inserted

    def _take_back_refused(self, database: Database) -> None:
        """Undo labels of which a failed sync said that they were not taken, and that are there."""
        ghosts = list(self.labels(self._acknowledged))
        database.put("labels", (replace(x, status=UNDONE).to_row(x.seq) for x in ghosts))
        if ghosts:
            self._note(database, UNDONE, f"refused: {ranges([x.seq for x in ghosts])}")

    def _insert(
        self, database: Database, labels: Sequence[Label], facts: Mapping[str, Any] | None = None
    ) -> list[int]:
        first, facts = self.last_seq + 1, facts or {}
        seqs = list(range(first, first + len(labels)))
        pairs = list(zip(seqs, labels, strict=True))
        n_bytes = sum(len(blob) for label in labels for blob in label.blobs)
        database.put("labels", (label.to_row(seq) for seq, label in pairs))
        database.put("latents", ((seq, *label.blobs) for seq, label in pairs))
        self._inserted = first - 1 + len(seqs)
        counts = {"last_seq": self._inserted, "written": self._written(n_bytes)}
        database.put("meta", meta({**counts, **facts}))
        if any(name.startswith(REQUEST) for name in facts):
            _let_go_of_requests(database)
        return seqs


def _let_go_of_requests(database: Database) -> None:
    """Delete the oldest answers to requests; rows are numbered in the order of writing."""
    names = "SELECT key FROM meta WHERE key >= 'key ' AND key < 'key!' ORDER BY rowid DESC"
    while oldest := database.value(f"{names} LIMIT 1 OFFSET {_MAX_REQUESTS}"):
        database.delete("meta", [oldest])
