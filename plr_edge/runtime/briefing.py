"""Briefing: what a new trainer has to know, read from the store a little at a time.

Forty thousand labels take seconds to read; frames are answered in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from plr_edge.runtime.canary import with_seq
from plr_edge.runtime.handover import TrainerProcess
from plr_edge.runtime.messages import pack
from plr_edge.runtime.saving import Slow, records_of
from plr_edge.store import LEARNED, TRAIN, Label, Store

_CHUNK = 32  # labels, 2 ms
_MOST_UNREAD = 64  # messages that a trainer may lag behind


class Briefing:
    """Tell one trainer of the newest generation, then of every label after it."""

    def __init__(
        self,
        trainer: TrainerProcess,
        store: Store,
        index_of: Callable[[str], int],
        slow: Slow | None,
        facts: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
        budget: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Say nothing yet.

        Args:
            trainer: that was just started.
            store: of the labels.
            index_of: index of a class.
            slow: of the newest generation; None where there is none.
            facts: of the message `start`.
            weights: to go on from, named as in that message.
            budget: what the trainer may do, asked at the end of the first message.
        """
        self.begun = False  # the first message was sent
        self.over = False  # the trainer knows every label
        self._trainer, self._store, self._index_of = trainer, store, index_of
        self._slow, self._facts, self._weights = slow, facts, weights
        self._budget = budget
        self._rest = self._all()

    def go_on(self, seconds: float) -> None:
        """Tell more, for so long."""
        until = time.monotonic() + seconds
        unread = self._trainer.n_unread
        while not self.over and unread < _MOST_UNREAD and time.monotonic() < until:
            self.over = next(self._rest, None) is None

    def _all(self) -> Iterator[bool]:
        arrays: dict[str, np.ndarray] = {}
        if self._slow:
            records, found = [np.zeros((0, self._record_bytes), np.uint8)], [np.zeros(0, np.int64)]
            for start in range(0, len(self._slow.seqs), _CHUNK):
                seqs = self._slow.seqs[start : start + _CHUNK]
                more, at = records_of(self._store, seqs, self._record_bytes)
                records.append(more)
                found.append(at + start)
                yield True
            arrays = {
                "memory.records": np.concatenate(records),
                "memory.labels": self._slow.labels[np.concatenate(found)],
                "rows": self._slow.rows, "prior": self._slow.prior, **self._weights,
            }  # fmt: skip
        memory = self._slow.memory_facts if self._slow else None
        cost = {"cost": self._slow.facts["cost"]} if self._slow else {}
        self._trainer.send(pack("start", {**self._facts, **cost, "memory": memory}, arrays))
        self._trainer.send(pack("budget", self._budget(), {}))
        self.begun = True
        told = self._slow.upto if self._slow else 0
        while labels := list(islice(self._untold(told), _CHUNK)):
            told = labels[-1].seq
            self._tell(labels)
            yield True

    @property
    def _record_bytes(self) -> int:
        return int(self._slow.memory_facts["record_bytes"]) if self._slow else 0

    def _untold(self, after: int) -> Iterator[Label]:
        return (x for x in self._store.labels(after) if x.status == LEARNED and x.use == TRAIN)

    def _tell(self, labels: list[Label]) -> None:
        held = self._store.with_latents(labels)
        if not held:
            return
        seqs = np.array([label.seq for label in held], np.int64)
        records = np.stack([label.record for label in held if label.record is not None])
        arrays = {
            "records": with_seq(records, seqs),
            "indices": np.array([self._index_of(label.name) for label in held], np.int64),
            "features": np.zeros((0,), np.float32),
        }
        self._trainer.send(pack("learn", {"upto": int(seqs[-1])}, arrays))
