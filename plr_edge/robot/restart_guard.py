"""RestartGuard: ends a loop of starts in each of which the robot dies.

After three failed starts in a row the newest generation is dropped. After five, the exported
network answers alone, until it has answered for a while: then what was learned is loaded beside the
frames. A start that ended with the power of the machine does not count as failed.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.files import read_text
from plr_edge.store import Store

_log = logging.getLogger(__name__)
HEALTHY_S = 30.0  # of answering, after which a start has succeeded
_BACK_AFTER, _OFF_AFTER = 3, 5  # failed starts
_MAX_HEALING_S = 3600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class RestartGuard:
    """Counts starts that have not succeeded, on disk.

    Attributes:
        answered: whether the robot came so far as to answer. Set it when it does.
        n_failed: number of starts before this one that failed, in a row.
        healed: whether what was learned was loaded after all.
    """

    def __init__(self, store: Store, boot_id: Path = _BOOT_ID) -> None:
        """Count this start, and drop the newest generation if three have failed.

        Args:
            store: keeps the count.
            boot_id: file that the kernel fills with another text after each boot.
        """
        self._store = store
        self._boot = read_text(boot_id) or ""
        self.answered = self.healed = False
        n_begun, boot = int(store.facts.get("starts", 0)), store.facts.get("boot", "")
        power_failed = bool(self._boot and boot and boot != self._boot)
        self.n_failed = max(n_begun - 1, 0) if power_failed else n_begun
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
        if self.healed or self.n_failed < _OFF_AFTER:
            return ""
        return (
            f"{self.n_failed} starts in a row failed; what was learned is used again after "
            f"{self.healthy_s:.0f} s without a failure"
        )

    @property
    def healthy_s(self) -> float:
        """Seconds of answering, after which a start has succeeded or what was learned is loaded.

        Longer after each start that failed although nothing learned was used, or once it was.
        """
        if self.healed:
            return HEALTHY_S
        doublings = min(max(self.n_failed - _OFF_AFTER, 0), 10)
        return min(HEALTHY_S * 2**doublings, _MAX_HEALING_S)

    def loaded(self, done: Future[None]) -> None:
        """Take in that what was learned is used again, or why it is not."""
        if (error := done.exception()) is None:
            self.healed = True
            _log.warning("what was learned is used again, after %d failed starts", self.n_failed)
        else:
            _log.error("what was learned cannot be used yet: %s", error)

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
            self._store.facts.keep(starts=n, boot=self._boot)
