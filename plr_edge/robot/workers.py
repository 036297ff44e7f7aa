"""Worker threads beside the thread of the frames, which takes in their results by `poll`.

One thread makes labels durable and takes them back, one fits the closed forms, and one evaluates
candidates and writes generations. At most one change of what was taught is under way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.errors import PlrEdgeError

_log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")
_REST = 4.0  # pause after a fit of ridge, as a multiple of the time it took


class Workers:
    """Three threads and their results.

    Attributes:
        disk: makes labels durable, takes them back, and logs events.
        ridge: lets ridge and the mix learn.
        aside: evaluates candidates and writes generations.
        changing: whether labels are being made durable or taken back.
        wake: called by a worker when `poll` has something to do.
        share: share of the time that evaluating candidates may take, 0..1.
        ending: whether the robot is about to end.
    """

    def __init__(self) -> None:
        """Start the threads."""
        self.disk, self.ridge, self.aside = (
            ThreadPoolExecutor(1, name) for name in ("disk", "ridge", "aside")
        )
        self.changing, self.share = False, 1.0
        self.wake: Callable[[], None] = lambda: None
        self._results: deque[Callable[[], None]] = deque()
        self._n_fits, self._hurried, self.ending = 0, threading.Event(), False

    def poll(self) -> None:
        """Take in the results that are there. Call it between two frames."""
        for _ in range(len(self._results)):
            try:
                self._results.popleft()()
            except PlrEdgeError:
                raise
            except Exception:  # what is done beside the frames costs no frame
                _log.exception("what was done beside the frames failed")

    def call_later(self, act: Callable[[], None]) -> None:
        """Have something called by the next `poll`."""
        self._results.append(act)

    def submit(
        self,
        executor: ThreadPoolExecutor,
        work: Callable[[], T],
        then: Callable[[Future[T]], None],
    ) -> None:
        """Do work on another thread, and pass its future on when it is done.

        Args:
            executor: one of the three.
            work: what to do there.
            then: called with the future, by `poll`.
        """

        def done(future: Future[T]) -> None:
            self.call_later(lambda: then(future))
            self.wake()

        executor.submit(work).add_done_callback(done)

    def change(self, work: Callable[[], T], take: Callable[[T], R]) -> Future[R]:
        """Change what was taught. Call it only while nothing else is `changing`.

        Args:
            work: done on the disk thread.
            take: takes in its result, by `poll`.

        Returns:
            What `take` returned, or what either of them raised.
        """
        assert not self.changing
        self.changing = True
        outcome: Future[R] = Future()

        def then(done: Future[T]) -> None:
            self.changing = False
            try:
                outcome.set_result(take(done.result()))
            except Exception as error:
                outcome.set_exception(error)

        self.submit(self.disk, work, then)
        return outcome

    def learn_statistics(
        self,
        classifier: CombinedClassifier,
        taps: np.ndarray,
        exported: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        """Let the closed forms learn a batch beside the frames. Until then class means answer.

        Args:
            classifier: what learns.
            taps: (n, T) float32.
            exported: (n, D) float32 features of the network as exported.
            labels: (n,) class indices.
        """
        self._n_fits += 1
        self.ridge.submit(self._learn_statistics, classifier, taps, exported, labels)

    def _learn_statistics(
        self,
        classifier: CombinedClassifier,
        taps: np.ndarray,
        exported: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        start = time.monotonic()
        self._n_fits -= 1
        try:
            classifier.learn_statistics(taps, exported, labels)
            if self._n_fits == 0:
                classifier.solve()
        except Exception:
            _log.exception("ridge did not learn a batch")
        # labels that arrive meanwhile are learned together
        self._hurried.wait(_REST * (time.monotonic() - start))

    def settle(self) -> None:
        """Wait until ridge has learned everything, and nothing is evaluated or written.

        Not for the thread of the frames while they come.
        """
        for executor in (self.ridge, self.aside):
            executor.submit(_nothing).result()

    @property
    def n_waiting(self) -> int:
        """Batches that the closed forms have not learned yet."""
        return self._n_fits

    @contextmanager
    def without_pauses(self) -> Iterator[None]:
        """Let the closed forms learn without pauses between two batches."""
        self._hurried.set()
        yield
        if not self.ending:
            self._hurried.clear()

    def hurry(self) -> None:
        """Stop pausing, because the robot is about to end."""
        self.share, self.ending = 1.0, True
        self._hurried.set()

    def close(self) -> None:
        """Finish what is under way, and end the threads."""
        self.hurry()
        for executor in (self.disk, self.ridge, self.aside):
            executor.shutdown()


def _nothing() -> Any:
    return None
