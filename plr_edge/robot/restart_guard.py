"""Starts: a robot that dies soon after each start goes back a generation, then learns nothing.

Whatever kills it, a loop of restarts ends: after three failed starts in a row the newest generation
is set aside, after five the exported network answers alone. The start after that tries again.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from plr_edge.errors import StateError
from plr_edge.store import Store

_log = logging.getLogger(__name__)
HEALTHY_S = 30.0  # of answering, after which a start has succeeded
_BACK_AFTER, _OFF_AFTER = 3, 5


class RestartGuard:
    """Counts starts that have not succeeded, on disk."""

    def __init__(self, store: Store) -> None:
        """Count one more, and take what may kill it out of its way."""
        self._store = store
        self.answered = False  # it came so far as to answer
        self.n_failed = int(store.facts.get("starts", 0))
        self._keep(self.n_failed + 1)
        generations = [info.number for info in store.generations]
        if _BACK_AFTER <= self.n_failed < _OFF_AFTER and len(generations) > 1:
            newest = generations[-1]
            _log.error("%d starts failed; generation %d is set aside", self.n_failed, newest)
            with suppress(StateError):
                store.generations.discard([newest], f"{self.n_failed} starts in a row failed")

    @property
    def trouble(self) -> str:
        """Why nothing learned is used, empty where it is."""
        if self.n_failed < _OFF_AFTER:
            return ""
        return (
            f"{self.n_failed} starts in a row failed; what was learned is not used until the next"
        )

    def succeeded(self) -> None:
        """Begin to count anew; where nothing learned was used, it is not trusted yet."""
        self._keep(_BACK_AFTER if self.trouble else 0)

    def given_up(self) -> None:
        """Say that this one ended in an orderly way; before it answered, it was no start at all."""
        if not self.answered:
            self._keep(self.n_failed)

    def _keep(self, n: int) -> None:
        with suppress(StateError):  # a disk that is full or read-only is no reason not to start
            self._store.facts.keep(starts=n)
