"""StandIn: what a robot runs on while its state cannot be opened.

The disk may be full, another process may hold the state, or what it is on is not mounted yet. The
robot then answers from a copy in a temporary folder, and refuses every change. It starts again when
the state can be opened.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import PlrEdgeError, StateError
from plr_edge.robot.options import RobotOptions, make_robot
from plr_edge.robot.robot import Robot
from plr_edge.robot.systemd import notify
from plr_edge.store import copied_state, open_store

_log = logging.getLogger(__name__)
_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_RESTART_S = 120  # that the watchdog of systemd grants to a start


class StandIn:
    """A copy of a state, or an empty one, in a temporary folder.

    Attributes:
        path: the folder.
        is_blank: whether what was learned could not be copied.
        can_go: set when the state can be opened.
    """

    def __init__(self, state: Path, error: StateError) -> None:
        """Copy what can be read.

        Args:
            state: directory of the state.
            error: why it cannot be opened.

        Raises:
            StateError: the state cannot be copied.
        """
        self._state, self._error = state, error
        self.can_go = threading.Event()
        self._folder, self.is_blank = _copy(state, error)
        self.path = Path(self._folder.name)

    def use(self, robot: Robot) -> None:
        """Let a robot on this folder say so, and stop it when the state can be opened."""
        robot.model.store.freeze(f"nothing can be taught yet: {self._error}", lambda: None)
        robot.troubles["state"] = f"nothing can be taught: {self._error}; trying again"
        if self.is_blank:
            robot.troubles["learned"] = "what was learned cannot be read yet"
        robot.governor_loop.paused = True
        _log.warning("%s", robot.troubles["state"])
        threading.Thread(target=self._wait, args=(robot,), name="state", daemon=True).start()

    def close(self) -> None:
        """Delete the folder."""
        self._folder.cleanup()

    def _wait(self, robot: Robot) -> None:
        n = 0
        while not robot.stopping.wait(_PAUSES_S[min(n, len(_PAUSES_S) - 1)]):
            n += 1
            try:
                open_store(self._state).close()
            except PlrEdgeError as error:
                robot.troubles["state"] = f"nothing can be taught: {error}; trying again"
                continue
            _log.warning("%s can be opened; starting again with it", self._state)
            self.can_go.set()
            robot.stop()
            return


def _copy(state: Path, error: StateError) -> tuple[tempfile.TemporaryDirectory[str], bool]:
    """Return a folder with a copy of a state, or an empty one. The first place with space is used.

    Raises:
        StateError: there is none.
    """
    for place in (None, "/dev/shm", os.environ.get("XDG_RUNTIME_DIR")):
        for copying in (True, False):
            folder = None
            try:
                folder = tempfile.TemporaryDirectory(prefix="plr-edge-", dir=place)
                if copying:
                    copied_state(state, Path(folder.name))
                else:
                    open_store(folder.name).close()
                return folder, not copying and (state / "store.db").exists()
            except (OSError, shutil.Error, StateError):
                if folder is not None:
                    with suppress(OSError):
                        folder.cleanup()
    raise error


def start_again() -> None:
    """Replace this process by one that starts as this one did. Its number stays the same."""
    notify(f"WATCHDOG_USEC={_RESTART_S * 10**6}\nWATCHDOG=1\nSTATUS=starting again")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def made_robot(bundle: Path, state: Path, options: RobotOptions) -> tuple[Robot, StandIn | None]:
    """Make a robot as `make_robot` does, on a stand-in if its state cannot be opened yet.

    Raises:
        PlrEdgeError: it cannot be made, nor later.
    """
    try:
        return make_robot(bundle, state, options), None
    except StateError as error:
        if not error.can_pass:
            raise
        stand_in = StandIn(state, error)
    try:
        robot = make_robot(bundle, stand_in.path, options)
    except BaseException:
        stand_in.close()
        raise
    stand_in.use(robot)
    return robot, stand_in
