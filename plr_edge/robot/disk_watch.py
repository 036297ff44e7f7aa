"""DiskWatch: notices that the disk of the state is full, and that it takes labels again."""

from __future__ import annotations

from collections.abc import MutableMapping
from concurrent.futures import Future
from contextlib import suppress

from plr_edge.errors import StateError
from plr_edge.robot.online_model import OnlineModel

_KEY = "disk"  # of the trouble that it reports


class DiskWatch:
    """Looks at the disk and at the clock about once a second, on the thread that writes."""

    def __init__(self, model: OnlineModel, troubles: MutableMapping[str, str]) -> None:
        """Look at nothing yet.

        Args:
            model: has the state. Its `disk_trouble` is taken back once the disk takes writes again.
            troubles: what is wrong, by who says so.
        """
        self._model, self._troubles = model, troubles
        self._is_looking = False

    def look(self) -> None:
        """Look, unless the last look has not ended. Call it on the thread of the frames."""
        if self._is_looking:
            return
        self._is_looking = True
        refused = bool(self._model.disk_trouble)
        workers = self._model.workers
        workers.submit(workers.disk, lambda: self._found(refused), self._take)

    def _found(self, refused: bool) -> tuple[str, bool]:
        """Return what is wrong, and whether the disk took a write after it had refused labels."""
        store = self._model.store
        with suppress(StateError):  # it is tried again
            store.clock.watch()
        trouble = store.disk_trouble
        accepts = refused and not trouble and store.events.note("disk", "it takes labels again")
        return trouble, accepts

    def _take(self, looked: Future[tuple[str, bool]]) -> None:
        self._is_looking = False
        trouble, accepts = looked.result()
        if accepts:
            self._model.disk_trouble = ""
        said = self._model.disk_trouble or self._troubles.get("state")  # in other words already
        self._troubles[_KEY] = f"labels are refused: {trouble}" if trouble and not said else ""
