"""Snapshots: when a robot writes a generation, and how it does so while it answers and learns."""

from __future__ import annotations

import copy
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from plr_edge.errors import PlrEdgeError
from plr_edge.runtime import checkpoint as saving
from plr_edge.runtime.drafts import draft_of
from plr_edge.store import Store

if TYPE_CHECKING:
    from plr_edge.robot.live import Live

_log = logging.getLogger(__name__)
_EVERY_S = 300.0
_EVERY_LABELS = 500


class Autosave:
    """Write what a robot knows at one instant."""

    def __init__(
        self, live: Live, store: Store, fit: ThreadPoolExecutor, aside: ThreadPoolExecutor
    ) -> None:
        """Take what is known now as written.

        Args:
            live: whose knowledge.
            store: where to.
            fit: the thread that ridge learns on.
            aside: the thread that writes.
        """
        self._live, self._store, self._fit, self._aside = live, store, fit, aside
        self._writing = False
        self._saved, self._saved_at = (live.last_seq, live.version), time.monotonic()

    @property
    def unsaved(self) -> bool:
        """Whether something was learned that no generation on disk holds."""
        return (self._live.last_seq, self._live.version) != self._saved

    def poll(self) -> None:
        """Write a generation when it is time."""
        if self._writing or not self.unsaved:
            return
        late = time.monotonic() - self._saved_at > _EVERY_S
        if late or self._live.last_seq - self._saved[0] >= _EVERY_LABELS:
            self.save("on time", within_budget=True)

    def save(self, reason: str, *, within_budget: bool = False) -> Future[bool]:
        """Write a generation.

        Args:
            reason: for the log.
            within_budget: do nothing where today's budget of bytes written is spent.

        Returns:
            Whether it was written: there may be nothing to write yet, another one under way, or a
            disk that refuses.
        """
        written: Future[bool] = Future()
        live, slow = self._live, self._live.slow
        if slow is None or self._writing:
            written.set_result(False)
            return written
        before, upto = self._saved, live.last_seq
        self._writing = True
        self._saved, self._saved_at = (live.last_seq, live.version), time.monotonic()
        frozen, classifier = draft_of(live), live.classifier
        frozen.canary.memory = copy.deepcopy(live.canary.memory)

        def freeze_ridge() -> None:  # after it has learned every label up to `upto`
            frozen.classifier.ridge = copy.deepcopy(classifier.ridge)
            frozen.classifier.pending = list(classifier.pending)
            self._aside.submit(write)

        def write() -> None:
            done = False
            try:
                spent = self._store.written_today > live.config.write_bytes_per_day
                if not (within_budget and spent):
                    saving.save(frozen, self._store, slow, reason, upto=upto)
                    done = True
            except PlrEdgeError as error:
                _log.error("%s", error)
            finally:
                self._saved = self._saved if done else before
                self._writing = False
                written.set_result(done)

        self._fit.submit(freeze_ridge)
        return written
