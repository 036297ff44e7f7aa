"""Label log: labels in the order of teaching, with their latents while there is room for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from plr_edge.store.database import Database
from plr_edge.store.facts import Facts, WriteCounter
from plr_edge.store.labels import FORGOTTEN, Label, without_folder
from plr_edge.store.rows import meta
from plr_edge.store.transaction import Transaction

MAX_LABELS = 100_000
_TOGETHER = 256  # latents read by one query


class LabelLog:
    """The tables `labels`, `latents` and `contents`."""

    def __init__(self, database: Database, facts: Facts, written: WriteCounter) -> None:
        self._database, self._facts, self._written = database, facts, written

    def read(self, after: int = 0, status: str | None = None) -> Iterator[Label]:
        """Read labels in the order of teaching, without their latents.

        Args:
            after: skip the labels up to this place.
            status: read only labels of this status.
        """
        where, values = "seq > ?", list[int | str]([after])
        if status is not None:
            where, values = f"{where} AND status = ?", [after, status]
        for row in self._database.rows("labels", where, values):
            yield Label.from_row(row)

    def __iter__(self) -> Iterator[Label]:
        return self.read()

    def __len__(self) -> int:
        return int(self._database.value("SELECT count(*) FROM labels"))

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of labels by class and status."""
        rows = self._database.select("SELECT name, status, count(*) FROM labels GROUP BY 1, 2")
        return {(str(name), str(status)): int(n) for name, status, n in rows}

    def count_after(self, after: int, status: str) -> int:
        """Return the number of labels of a status after a place in the order of teaching."""
        query = "SELECT count(*) FROM labels WHERE seq > ? AND status = ?"
        return int(self._database.select(query, (after, status))[0][0])

    def with_latents(self, labels: Sequence[Label]) -> list[Label]:
        """Return the labels whose latents are still held, with them."""
        found, seqs = [], [label.seq for label in labels]
        held: dict[int, tuple[bytes, bytes]] = {}
        for start in range(0, len(seqs), _TOGETHER):
            own = seqs[start : start + _TOGETHER]
            where = f"seq IN ({','.join('?' * len(own))})"
            for seq, record, taps in self._database.rows("latents", where, own):
                held[seq] = record, taps
        for label in labels:
            if label.seq in held:
                record, taps = held[label.seq]
                arrays = np.frombuffer(record, np.uint8), np.frombuffer(taps, np.float16)
                found.append(replace(label, record=arrays[0], taps=arrays[1]))
        return found

    def with_contents(self, status: str | None = None) -> Iterator[Label]:
        """Read labels as `read` does, with what identifies their frames as far as it is known."""
        contents: dict[int, bytes] = dict(self._database.rows("contents"))
        for label in self.read(status=status):
            yield replace(label, content=contents.get(label.seq, b""))

    @property
    def n_latents(self) -> int:
        """Number of labels whose latents are still held."""
        return int(self._database.value("SELECT count(*) FROM latents"))

    @property
    def n_latent_bytes(self) -> int:
        """Bytes of the latents that are still held."""
        query = "SELECT coalesce(sum(length(record) + length(taps)), 0) FROM latents"
        return int(self._database.value(query))

    # within a transaction

    def append(self, tx: Transaction, labels: Sequence[Label]) -> list[Label]:
        """Add labels, with their latents if they have any; returns them with their places."""
        first = self._facts.last_seq + 1
        placed = [replace(label, seq=first + i) for i, label in enumerate(labels)]
        self.put(tx, placed)
        held = [label for label in placed if label.has_latent]
        tx.put("latents", ((label.seq, *label.blobs) for label in held))
        tx.put("contents", ((label.seq, label.content) for label in placed if label.content))
        tx.put("meta", meta({"last_seq": first - 1 + len(placed)}))
        self._written.add(tx, sum(len(blob) for label in held for blob in label.blobs))
        return placed

    def put(self, tx: Transaction, labels: Sequence[Label], status: str | None = None) -> None:
        """Write the rows of labels that have their places, with another status if one is given."""
        changed = (x if status is None else replace(x, status=status) for x in labels)
        tx.put("labels", (label.to_row() for label in changed))

    def delete(self, tx: Transaction, seqs: Sequence[int]) -> None:
        """Delete labels, their latents and what identifies their frames."""
        for table in ("labels", "latents", "contents"):
            tx.delete(table, seqs)
        if seqs:
            n_deleted = int(self._facts.get("n_deleted", 0)) + len(seqs)
            tx.put("meta", meta({"n_deleted": n_deleted}))

    def redact(self, tx: Transaction, name: str) -> int:
        """Take a class out of what is kept of other labels; returns how many that were.

        It may stand there as the answer before the label, or as a folder of the frame.
        """
        changed = []
        for label in self:
            predicted = FORGOTTEN if label.predicted == name else label.predicted
            source = without_folder(name, label.source)
            if label.name != name and (predicted, source) != (label.predicted, label.source):
                changed.append(replace(label, predicted=predicted, source=source))
        self.put(tx, changed)
        return len(changed)

    def evict(self, upto: int, in_use: set[int], max_latent_bytes: int) -> None:
        """Delete the oldest latents, and the oldest labels, beyond what may be kept.

        Args:
            upto: evict nothing after this label.
            in_use: labels whose latents are needed.
            max_latent_bytes: what may be kept; `MAX_LABELS` limits the labels.
        """
        excess = self.n_latent_bytes - max_latent_bytes
        n_excess = len(self) - MAX_LABELS
        if excess <= 0 and n_excess <= 0:
            return
        latents = []
        for seq, record, taps in self._database.rows("latents", "seq <= ?", (upto,)):
            if excess <= 0:
                break
            if seq not in in_use:
                latents.append(seq)
                excess -= len(record) + len(taps)
        old = list[int]()
        if n_excess > 0:
            rows = self._database.rows("labels", "seq <= ?", (upto,))
            old = [row[0] for row in rows if row[0] not in in_use][:n_excess]
        with self._database.transaction() as tx:
            tx.delete("latents", latents)
            self.delete(tx, old)
