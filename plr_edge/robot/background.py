"""Background: knowledge whose slow work is done beside the frames; `poll` takes in what came of it.

Labels are made durable, and taken back, on one thread; ridge is fitted on another; what is judged
or written goes to a third. One change of what was taught is under way at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.runtime import checkpoint as saving
from plr_edge.runtime.drafts import adopt, become, draft_of
from plr_edge.runtime.knowledge import Knowledge
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.perception import Features, FrozenOutput
from plr_edge.stream.base import Frame

_log = logging.getLogger(__name__)
T = TypeVar("T")
_REST = 4.0  # pause after a fit of ridge, in times of what it took


class Background(Knowledge):
    """Answer here; learn labels on other threads."""

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path,
        config: LearningConfig,
        engines: EngineConfig | None = None,
    ) -> None:
        """Open the state; nothing is recovered yet.

        Raises:
            StateError: the state is damaged, in use or not writable.
        """
        super().__init__(bundle, state, config, engines)
        self.wake: Callable[[], None] = lambda: None  # called when `poll` has something to do
        self.last_seq = 0  # labels acknowledged
        self.changing = False  # labels are being made durable, or taken back
        self.epoch = 0  # of what was taught; it ends when labels are taken back
        self.slow: saving.TrainerCheckpoint | None = (
            None  # what training knew at the last generation
        )
        self._ready: deque[Callable[[], None]] = deque()  # results, for `poll`
        self._n_fits, self._hurried = 0, threading.Event()
        self._disk, self._fit, self._aside = (
            ThreadPoolExecutor(1, name) for name in ("disk", "ridge", "aside")
        )

    def close(self) -> None:
        """End what is under way, and give the state's lock back."""
        self.hurry()
        for executor in (self._disk, self._fit, self._aside):
            executor.shutdown()
        super().close()

    def poll(self) -> None:
        """Take in what was done elsewhere; call it between two frames."""
        for _ in range(len(self._ready)):
            self._ready.popleft()()

    def teach(
        self, frames: Sequence[Frame], looked: Sequence[FrozenOutput], facts: Mapping[str, Any]
    ) -> Future[LabelledBatch | None]:
        """Acknowledge and learn labelled frames; call it only while nothing is `changing`.

        Features are computed anew: frames that were seen some seconds ago were seen by the version
        of then.

        Args:
            frames: with labels.
            looked: what the frozen part made of each.
            facts: to keep with the labels.

        Returns:
            What was learned, once it is durable and answers; or a StateError: the disk refuses.
        """
        draft, store = draft_of(self), self.store
        assert store is not None
        latents, taps = (
            np.concatenate([getattr(x, n) for x in looked]) for n in ("latents", "taps")
        )

        def work() -> tuple[LabelledBatch | None, int]:
            seen = Features(latents, taps, draft.perception.features_of(latents))
            _, taught = draft.answer(frames, seen, facts)
            return taught, store.last_seq

        def take(result: tuple[LabelledBatch | None, int]) -> LabelledBatch | None:
            taught, last_seq = result
            adopt(self, draft)
            self.last_seq = last_seq
            if taught and taught.labels:
                self.learn_fast(taught)
                self.learn_slow(taught)
            return taught

        return self._change(work, take)

    def restart_after(self, change: Callable[[], T]) -> Future[T]:
        """Take labels back, and learn from those that are left, while what answers now goes on.

        Args:
            change: of the store, done on another thread.

        Returns:
            What it returned, once the labels that are left answer; or what it raised.
        """
        self.drop_training()
        self.epoch += 1
        store, fresh = self.store, draft_of(self)
        assert store is not None and isinstance(fresh, Background)

        def work() -> T:
            self.settle()  # what is being written knows these labels
            result = change()
            fresh.slow = None
            fresh.reset()
            saving.recover(fresh, store)
            self.settle()
            return result

        def take(result: T) -> T:
            become(self, fresh)
            self.slow = fresh.slow
            return result

        return self._change(work, take)

    def learn_ridge(self, taps: np.ndarray, labels: np.ndarray) -> None:
        """Let ridge learn a batch beside the frames; until then class means answer."""
        self._n_fits += 1
        self._fit.submit(self._learn_ridge, self.classifier, taps, labels)

    def note(self, kind: str, text: str) -> None:
        """Keep an event in the log of the state, when there is time."""
        if self.store:
            self._disk.submit(self.store.events.note, kind, text)

    def hurry(self) -> None:
        """Rest no more: it is about to end."""
        self.share = 1.0
        self._hurried.set()

    def settle(self) -> None:
        """Wait until ridge has learned everything, and nothing is judged or written."""
        for executor in (self._fit, self._aside):
            executor.submit(lambda: None).result()

    def learn_slow(self, taught: LabelledBatch) -> None:
        """Train on labels; a subclass does."""

    def drop_training(self) -> None:
        """Let go of all training; a subclass does."""

    # inside

    def _change(self, work: Callable[[], Any], take: Callable[[Any], T]) -> Future[T]:
        """Do work on the thread of the disk, and take its result in before the next frame."""
        assert not self.changing
        self.changing = True
        outcome: Future[T] = Future()

        def then(done: Future[Any]) -> None:
            self.changing = False
            try:
                outcome.set_result(take(done.result()))
            except Exception as error:
                outcome.set_exception(error)

        self._later(self._disk, work, then)
        return outcome

    def _later(
        self, executor: ThreadPoolExecutor, work: Callable[[], Any],
        then: Callable[[Future[Any]], None],
    ) -> None:  # fmt: skip
        def tell(done: Future[Any]) -> None:
            self._ready.append(lambda: then(done))
            self.wake()

        executor.submit(work).add_done_callback(tell)

    def _learn_ridge(
        self, classifier: CombinedClassifier, taps: np.ndarray, labels: np.ndarray
    ) -> None:
        start = time.monotonic()
        self._n_fits -= 1
        try:
            classifier.learn_ridge(taps, labels)
            if self._n_fits == 0:
                classifier.settle()
        except Exception:
            _log.exception("ridge did not learn a batch")
        self._hurried.wait(_REST * (time.monotonic() - start))  # labels that flood in are gathered
