"""Keeps the HTTP interface: an address that cannot be listened on yet is tried again, for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from plr_edge.errors import PlrEdgeError
from plr_edge.robot.robot import Robot
from plr_edge.serve.server import Service

_log = logging.getLogger(__name__)
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class KeptService:
    """The HTTP server of a robot, which answers frames whether or not it can be reached."""

    def __init__(self, robot: Robot, serve: Callable[[], Service]) -> None:
        """Serve, now or as soon as that is possible.

        Args:
            robot: says that it cannot be reached, as long as that is so.
            serve: starts to serve.

        Raises:
            PlrEdgeError: it cannot be served, nor later.
        """
        self._robot, self._serve = robot, serve
        self._service: Service | None = None
        self._lock = threading.Lock()
        try:
            self._service = serve()
        except PlrEdgeError as error:
            if not error.can_pass:
                raise
            self._say(error)
            threading.Thread(target=self._retry, name="listen", daemon=True).start()

    @property
    def failed(self) -> bool:
        """Whether serving ended by an error."""
        return self._service is not None and self._service.failed

    def stop(self) -> None:
        """Stop serving, and close open connections."""
        with self._lock:
            if self._service is not None:
                self._service.stop()

    def _say(self, error: PlrEdgeError) -> None:
        self._robot.troubles["serve"] = f"{error}; trying again"
        _log.warning("%s; trying again", error)

    def _retry(self) -> None:
        n = 0
        while not self._robot.stopping.wait(_PAUSES_S[min(n, len(_PAUSES_S) - 1)]):
            n += 1
            with self._lock:
                if self._robot.stopping.is_set():
                    return
                try:
                    self._service = self._serve()
                except PlrEdgeError as error:
                    self._robot.troubles["serve"] = f"{error}; trying again"
                    continue
            self._robot.troubles.pop("serve", None)
            return
