"""Autosave: when a robot writes a generation, and how it does so while it answers and learns."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import PlrEdgeError
from plr_edge.robot.workers import Workers
from plr_edge.runtime.checkpoint import TrainerCheckpoint, save
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.store import Store

_log = logging.getLogger(__name__)
_EVERY_S = 300.0
_EVERY_LABELS = 500


class Autosave:
    """Writes what a robot knows at one instant."""

    def __init__(
        self,
        store: Store,
        bundle: Bundle,
        config: LearningConfig,
        workers: Workers,
        saved: tuple[int, int],
    ) -> None:
        """Write nothing yet.

        Args:
            store: where to write.
            bundle: what the robot learns with.
            config: how it learns.
            workers: their ridge thread is asked for a copy of ridge, their aside thread writes.
            saved: last label and version that need not be written.
        """
        self._store, self._bundle, self._config, self._workers = store, bundle, config, workers
        self._writing = False
        self._saved, self._saved_at = saved, time.monotonic()

    def is_behind(self, last_seq: int, version: int) -> bool:
        """Return whether no generation on disk holds this label and this version."""
        return (last_seq, version) != self._saved

    def is_due(self, last_seq: int, version: int) -> bool:
        """Return whether it is time to write a generation."""
        if self._writing or not self.is_behind(last_seq, version):
            return False
        late = time.monotonic() - self._saved_at > _EVERY_S
        return late or last_seq - self._saved[0] >= _EVERY_LABELS

    def save(
        self,
        model: LearnedModel,
        training: TrainerCheckpoint | None,
        last_seq: int,
        reason: str,
        *,
        within_budget: bool = False,
    ) -> Future[bool]:
        """Write a generation. Call it on the thread that learns.

        Args:
            model: what was learned.
            training: its training. Without it there is nothing to write.
            last_seq: last label that the model has learned.
            reason: why, for the log.
            within_budget: do nothing if the bytes of today are spent.

        Returns:
            Whether it was written. It is not if there is nothing to write yet, if another one is
            being written, or if the disk refuses.
        """
        written: Future[bool] = Future()
        if training is None or self._writing:
            written.set_result(False)
            return written
        before = self._saved
        self._writing = True
        self._saved, self._saved_at = (last_seq, model.version), time.monotonic()
        frozen = model.draft()
        frozen.holdout = model.holdout.copy()

        def copy_ridge() -> None:  # after it has learned every label up to `last_seq`
            frozen.classifier = frozen.classifier.copy()
            self._workers.aside.submit(write, training)

        def write(training: TrainerCheckpoint) -> None:
            done = False
            try:
                spent = self._store.written_today > self._config.write_bytes_per_day
                if not (within_budget and spent):
                    store, bundle, config = self._store, self._bundle, self._config
                    save(store, bundle, config, frozen, training, reason, upto=last_seq)
                    done = True
            except PlrEdgeError as error:
                _log.error("%s", error)
            finally:
                self._saved = self._saved if done else before
                self._writing = False
                written.set_result(done)

        self._workers.ridge.submit(copy_ridge)
        return written
