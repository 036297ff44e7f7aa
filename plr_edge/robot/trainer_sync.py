"""TrainerSync: starts a trainer and sends it what was taught so far, on a thread of its own.

Reading forty thousand labels takes seconds. Frames are answered and labels taught meanwhile.
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
from plr_edge.replay.latent_memory import with_seq
from plr_edge.robot.protocol import pack
from plr_edge.robot.trainer_process import TrainerProcess
from plr_edge.runtime.checkpoint import TrainerCheckpoint, records_of
from plr_edge.store import LEARNED, TRAIN, Label, Store

_log = logging.getLogger(__name__)
_CHUNK = 32  # labels in one message
_MAX_UNREAD = 64  # messages that the trainer may lag behind
_PAUSE_S = 0.01


class TrainerSync:
    """Starts one trainer, and sends it the newest checkpoint, then every label after it."""

    def __init__(
        self,
        process: TrainerProcess,
        store: Store,
        classes: Callable[[], Sequence[str]],
        last_seq: Callable[[], int],
        checkpoint: TrainerCheckpoint | None,
        metadata: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
    ) -> None:
        """Start.

        Args:
            process: the trainer to start.
            store: holds the labels.
            classes: returns the class names by index.
            last_seq: returns the last label that was learned. Later ones come by `send`.
            checkpoint: training to continue. None starts afresh.
            metadata: metadata of the message `start`.
            weights: weights to go on from, under their names in that message.
        """
        self._process, self._store, self._classes = process, store, classes
        self._last_seq, self._checkpoint = last_seq, checkpoint
        self._metadata, self._weights = metadata, weights
        self._lock = threading.Lock()
        self._begun = self._in_sync = self._cancelled = False
        self._waiting: list[tuple[int, bytes]] = []
        process.starting = True
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, upto: int, message: bytes) -> None:
        """Send a message in its turn.

        Args:
            upto: last label in the message. 0 if it holds none, and need not wait for any.
            message: from `pack`.
        """
        with self._lock:
            if self._in_sync or (self._begun and not upto):
                self._send(message)
            else:
                self._waiting.append((upto, message))

    def cancel(self) -> None:
        """Send nothing more: the trainer is gone, or is to end as soon as it is there."""
        with self._lock:
            self._cancelled = True

    def _send(self, message: bytes) -> None:
        if not self._cancelled:
            self._process.send(message)

    def _start(self) -> bool:
        """Start the trainer. Return False if it failed, or is not wanted any more."""
        there = self._process.start()
        with self._lock:
            if self._cancelled:
                self._process.dismiss()
            self._process.starting = False
            return there and not self._cancelled

    def _run(self) -> None:
        try:
            if not self._start():
                return
            self._begin()
            sent = self._checkpoint.upto if self._checkpoint else 0
            while labels := list(islice(self._unsent(sent), _CHUNK)):
                sent = labels[-1].seq
                self._send_labels(labels)
                while self._process.n_unread > _MAX_UNREAD and not self._cancelled:
                    time.sleep(_PAUSE_S)
                if self._cancelled:
                    return
            with self._lock:
                for upto, message in self._waiting:
                    if upto > sent:
                        self._send(message)
                self._waiting.clear()
                self._in_sync = True
        except PlrEdgeError as error:
            if self._cancelled:  # the store was closed, or another one has begun
                return
            _log.error("the trainer cannot be sent what it needs (%s)", error)
            self._process.kill()  # one that knows too little would make things worse

    def _begin(self) -> None:
        arrays: dict[str, np.ndarray] = {}
        metadata = {**self._metadata, "memory": None}
        if saved := self._checkpoint:
            record_bytes = int(saved.memory["record_bytes"])
            records, found = records_of(self._store, saved.seqs, record_bytes)
            arrays = {
                "memory.records": records,
                "memory.labels": saved.labels[found],
                "rows": saved.rehearsed,
                "prior": saved.prior,
                **self._weights,
            }
            metadata |= {"memory": saved.memory, "cost": saved.progress["cost"]}
        first = pack("start", metadata, arrays)
        with self._lock:
            self._send(first)
            for upto, message in self._waiting:
                if not upto:
                    self._send(message)
            self._waiting = [(upto, message) for upto, message in self._waiting if upto]
            self._begun = True

    def _unsent(self, after: int) -> Iterator[Label]:
        last = self._last_seq()
        for label in self._store.labels.read(after):
            if label.seq > last:
                return
            if label.status == LEARNED and label.use == TRAIN:
                yield label

    def _send_labels(self, labels: list[Label]) -> None:
        held = self._store.labels.with_latents(labels)
        if not held:
            return
        classes = self._classes()
        seqs = np.array([label.seq for label in held], np.int64)
        records = np.stack([label.record for label in held if label.record is not None])
        arrays = {
            "records": with_seq(records, seqs),
            "indices": np.array([classes.index(label.name) for label in held], np.int64),
            "features": np.zeros((0,), np.float32),
        }
        message = pack("learn", {"upto": int(seqs[-1])}, arrays)
        with self._lock:
            self._send(message)
