"""Fitting the mix of a running robot, on the thread that learns the closed forms."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from plr_edge.classifiers.mix import Mix
from plr_edge.robot.workers import Workers
from plr_edge.runtime.learned_model import LearnedModel

_log = logging.getLogger(__name__)
_IDLE_S = 20.0  # without a label, after which the mix is fitted to the last of them


class MixFitting:
    """Fits the mix when enough labels came, or when no more come for a while."""

    def __init__(self, workers: Workers, note: Callable[[str, str], None]) -> None:
        """Fit nothing yet.

        Args:
            workers: has the thread that learns the closed forms.
            note: keeps an event in the log of the state.
        """
        self._workers, self._note = workers, note
        self._fitting, self._taught_at = False, time.monotonic()

    def taught(self) -> None:
        """Say that a label came."""
        self._taught_at = time.monotonic()

    def poll(self, learned: Callable[[], LearnedModel], epoch: Callable[[], int]) -> None:
        """Begin to fit if it is due. Call it on the thread of the frames.

        Args:
            learned: returns the model that answers.
            epoch: returns a number that changes when labels are taken back.
        """
        classifier, begun = learned().classifier, epoch()
        final = time.monotonic() - self._taught_at > _IDLE_S
        if self._fitting or not classifier.is_fit_due(final=final):
            return
        self._fitting = True

        def then(done: Future[Mix | None]) -> None:
            self._fitting = False
            try:
                mix = done.result()
            except Exception:
                _log.exception("the mix could not be fitted")
                return
            if mix is not None and epoch() == begun:
                learned().classifier.mixing.mix = mix
                self._note("fitted", f"{mix.kind} mix of {mix.n_samples} labels")

        work = partial(classifier.mixing.fitted, final=final)
        self._workers.submit(self._workers.ridge, work, then)
