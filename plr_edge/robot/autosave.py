"""Autosave: when a robot writes a generation, and how it does so while it answers and learns.

A generation has tens of megabytes, and every label is on disk already. It only saves the time to
learn labels again at the next start, about 1 ms each, and the training of a version. So it is
written when one of them gets long, and not with every few labels.
"""

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
_EVERY_LABELS = 8_000  # about 7 s of a start; at 24 MB a generation 3 kB for each label
_FIRST_S = 300.0  # until the first generation, without which nothing but a robot can answer
_VERSION_S = 2_400.0  # of training that a crash may cost; at five labels a second 2 kB for each
_LABELS_S = 3_600.0


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
        self._is_first = saved[0] == 0  # whether nothing was ever written

    def rebuilt(self, version: int) -> None:
        """Look up what is saved, because labels were taken back, and generations with them.

        Args:
            version: version that answers now, which is that of the newest generation.
        """
        uptos = [info.upto for info in self._store.generations]
        self._saved = (uptos[-1] if uptos else 0, version)

    def is_behind(self, last_seq: int, version: int) -> bool:
        """Return whether no generation on disk holds this label and this version."""
        return (last_seq, version) != self._saved

    def is_due(self, last_seq: int, version: int) -> bool:
        """Return whether it is time to write a generation."""
        if self._writing or not self.is_behind(last_seq, version):
            return False
        passed_s, (saved_seq, saved_version) = time.monotonic() - self._saved_at, self._saved
        if last_seq - saved_seq >= _EVERY_LABELS:
            return True
        if self._is_first:
            return passed_s > _FIRST_S
        return passed_s > (_VERSION_S if version != saved_version else _LABELS_S)

    def save(
        self,
        model: LearnedModel,
        training: TrainerCheckpoint | None,
        last_seq: int,
        reason: str,
        *,
        within_budget: bool = False,
    ) -> Future[str]:
        """Write a generation. Call it on the thread that learns.

        Args:
            model: what was learned.
            training: its training. None before the first version: the closed forms are written.
            last_seq: last label that the model has learned.
            reason: why, for the log.
            within_budget: do nothing if the bytes of today are spent.

        Returns:
            Why it was not written. Empty if it was.
        """
        written: Future[str] = Future()
        if refusal := self._refusal(last_seq):
            written.set_result(refusal)
            return written
        before = self._saved
        self._writing = True
        self._saved, self._saved_at = (last_seq, model.version), time.monotonic()
        frozen = model.draft()
        frozen.holdout = model.holdout.copy()

        def copy_ridge() -> None:  # after it has learned every label up to `last_seq`
            frozen.classifier = frozen.classifier.copy()
            self._workers.aside.submit(write)

        def write() -> None:
            refusal = "it failed; the log has the reason"
            try:
                refusal = self._write(frozen, training, last_seq, reason, within_budget)
            except PlrEdgeError as error:
                refusal = str(error)
                _log.error("%s", error)
            finally:
                self._saved = before if refusal else self._saved
                self._writing = False
                written.set_result(refusal)

        self._workers.ridge.submit(copy_ridge)
        return written

    def _refusal(self, last_seq: int) -> str:
        """Return why nothing can be written now; empty if it can."""
        if self._writing:
            return "another generation is being written; ask again in a few seconds"
        return "" if last_seq else "nothing was taught yet"

    def _write(
        self,
        frozen: LearnedModel,
        training: TrainerCheckpoint | None,
        last_seq: int,
        reason: str,
        within_budget: bool,
    ) -> str:
        """Write a generation, and return why not; empty if it was written."""
        limit = self._config.write_bytes_per_day
        if within_budget and self._store.written_today > limit:
            return f"more than {limit / 1e9:g} GB were written today"
        save(self._store, self._bundle, self._config, frozen, training, reason, upto=last_seq)
        self._is_first = False
        return ""
