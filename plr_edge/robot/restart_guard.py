"""RestartGuard: ends a loop of starts in each of which the robot dies.

After three failed starts in a row the newest generation is dropped. After five, the exported
network answers alone. The start after that tries again.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from plr_edge.errors import StateError
from plr_edge.store import Store

_log = logging.getLogger(__name__)
HEALTHY_S = 30.0  # of answering, after which a start has succeeded
_BACK_AFTER, _OFF_AFTER = 3, 5  # failed starts


class RestartGuard:
    """Counts starts that have not succeeded, on disk.

    Attributes:
        answered: whether the robot came so far as to answer. Set it when it does.
        n_failed: number of starts before this one that failed, in a row.
    """

    def __init__(self, store: Store) -> None:
        """Count this start, and drop the newest generation if three have failed.

        Args:
            store: keeps the count.
        """
        self._store = store
        self.answered = False
        self.n_failed = int(store.facts.get("starts", 0))
        self._keep(self.n_failed + 1)
        generations = [info.number for info in store.generations]
        if _BACK_AFTER <= self.n_failed < _OFF_AFTER and len(generations) > 1:
            newest = generations[-1]
            _log.error("%d starts failed; generation %d is dropped", self.n_failed, newest)
            with suppress(StateError):
                store.generations.discard([newest], f"{self.n_failed} starts in a row failed")

    @property
    def trouble(self) -> str:
        """Why nothing learned is used. Empty if it is used."""
        if self.n_failed < _OFF_AFTER:
            return ""
        return (
            f"{self.n_failed} starts in a row failed; what was learned is not used until the next"
        )

    def succeeded(self) -> None:
        """Count this start as a success.

        The count restarts at zero, or at three failed starts if nothing learned was used.
        """
        self._keep(_BACK_AFTER if self.trouble else 0)

    def ended(self) -> None:
        """Count this start as if it had not been, if it ended in order before it answered."""
        if not self.answered:
            self._keep(self.n_failed)

    def _keep(self, n: int) -> None:
        with suppress(StateError):  # start even on a full or read-only disk
            self._store.facts.keep(starts=n)
