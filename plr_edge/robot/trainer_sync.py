"""Briefing: starts a trainer, and tells it what it has to know, on a thread of its own.

Forty thousand labels take seconds to read; frames are answered and labels taught meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from plr_edge.errors import PlrEdgeError
from plr_edge.robot.protocol import pack
from plr_edge.robot.trainer_process import TrainerProcess
from plr_edge.runtime.checkpoint import TrainerCheckpoint, records_of
from plr_edge.runtime.holdout import with_seq
from plr_edge.store import LEARNED, TRAIN, Label, Store

_log = logging.getLogger(__name__)
_CHUNK = 32  # labels
_MOST_UNREAD = 64  # messages that a trainer may lag behind
_PAUSE_S = 0.01


class TrainerSync:
    """Start one trainer, tell it of the newest generation, then of every label after it."""

    def __init__(
        self,
        trainer: TrainerProcess,
        store: Store,
        classes: Sequence[str],
        last_seq: Callable[[], int],
        slow: TrainerCheckpoint | None,
        facts: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """Begin.

        Args:
            trainer: to start.
            store: of the labels.
            classes: names by index; it may grow.
            last_seq: the last label that was taken in; later ones come by `tell`.
            slow: of the newest generation; None where there is none.
            facts: of the message `start`.
            weights: to go on from, named as in that message.
        """
        self._trainer, self._store, self._classes = trainer, store, classes
        self._last_seq, self._slow, self._facts, self._weights = last_seq, slow, facts, weights
        self._lock = threading.Lock()
        self._begun = self._over = self._cancelled = False
        self._waiting: list[tuple[int, bytes]] = []
        trainer.starting = True
        threading.Thread(target=self._run, daemon=True).start()

    def tell(self, upto: int, message: bytes) -> None:
        """Send a message, in its turn.

        Args:
            upto: the last label in it; 0 where it holds none, and need not wait for any.
            message: from `pack`.
        """
        with self._lock:
            if self._over or (self._begun and not upto):
                self._send(message)
            else:
                self._waiting.append((upto, message))

    def cancel(self) -> None:
        """Say nothing more: the trainer is gone, or is to go as soon as it is there."""
        with self._lock:
            self._cancelled = True

    def _send(self, message: bytes) -> None:
        if not self._cancelled:
            self._trainer.send(message)

    def _start(self) -> bool:
        """Start the trainer; False where nobody wants it any more."""
        there = self._trainer.start()
        with self._lock:
            if self._cancelled:
                self._trainer.dismiss()
            self._trainer.starting = False
            return there and not self._cancelled

    def _run(self) -> None:
        try:
            if not self._start():
                return
            self._begin()
            told = self._slow.upto if self._slow else 0
            while labels := list(islice(self._untold(told), _CHUNK)):
                told = labels[-1].seq
                self._tell(labels)
                while self._trainer.n_unread > _MOST_UNREAD and not self._cancelled:
                    time.sleep(_PAUSE_S)
                if self._cancelled:
                    return
            with self._lock:
                for upto, message in self._waiting:
                    if upto > told:
                        self._send(message)
                self._waiting.clear()
                self._over = True
        except PlrEdgeError as error:  # a trainer that knows too little would make things worse
            if self._cancelled:  # the store was closed, or another briefing has begun
                return
            _log.error("the trainer cannot be told what it needs (%s)", error)
            self._trainer.kill()

    def _begin(self) -> None:
        arrays: dict[str, np.ndarray] = {}
        facts = {**self._facts, "memory": None}
        if slow := self._slow:
            record_bytes = int(slow.memory_facts["record_bytes"])
            records, found = records_of(self._store, slow.seqs, record_bytes)
            arrays = {"memory.records": records, "memory.labels": slow.labels[found],
                      "rows": slow.rows, "prior": slow.prior, **self._weights}  # fmt: skip
            facts |= {"memory": slow.memory_facts, "cost": slow.facts["cost"]}
        first = pack("start", facts, arrays)
        with self._lock:
            self._send(first)
            for upto, message in self._waiting:
                if not upto:
                    self._send(message)
            self._waiting = [(upto, message) for upto, message in self._waiting if upto]
            self._begun = True

    def _untold(self, after: int) -> Iterator[Label]:
        last = self._last_seq()
        for label in self._store.labels.read(after):
            if label.seq > last:
                return
            if label.status == LEARNED and label.use == TRAIN:
                yield label

    def _tell(self, labels: list[Label]) -> None:
        held = self._store.labels.with_latents(labels)
        if not held:
            return
        seqs = np.array([label.seq for label in held], np.int64)
        records = np.stack([label.record for label in held if label.record is not None])
        arrays = {
            "records": with_seq(records, seqs),
            "indices": np.array([self._classes.index(label.name) for label in held], np.int64),
            "features": np.zeros((0,), np.float32),
        }
        message = pack("learn", {"upto": int(seqs[-1])}, arrays)
        with self._lock:
            self._send(message)
