"""The place of a store: whether its files still have their names, and its disk has space."""

from __future__ import annotations

import os
from pathlib import Path

from plr_edge.errors import StateError

_LEAST_BYTES = 128 << 10  # of free space that labels need, with the log that they are written to

_ADVICE = {
    "locked": "another process uses it; stop that one, or choose another --state",
    "full": "free some space or choose another --state",
    "readonly": "it is read-only; check who owns it, or choose another --state",
    "unable to open": "check who owns it, or choose another --state",
    "I/O": "free some space, check the disk, or choose another --state",
}
Identity = tuple[int, int]


class OpenFiles:
    """Files that a process holds open.

    What is written to a file that was deleted or replaced since is lost when the process ends, and
    no write says so.
    """

    def __init__(self, *files: Path) -> None:
        """Remember nothing yet.

        Args:
            files: their paths.
        """
        self._files = files
        self._known: dict[Path, Identity] = {}

    def remember(self) -> None:
        """Take the files that are there now as those that are open."""
        self._known = {file: found for file in self._files if (found := _identity(file))}

    def forget(self) -> None:
        """Take none of them as open."""
        self._known = {}

    def check(self, n: int | None = None) -> None:
        """Refuse to go on if one is gone.

        Args:
            n: look at so many of them only. All by default.

        Raises:
            StateError: it was deleted, moved or replaced.
        """
        for file in self._files[:n]:
            if file in self._known and _identity(file) != self._known[file]:
                raise StateError(
                    f"{file} was deleted, moved or replaced while it was in use; nothing can be "
                    "taught until it is back in its place, or the robot is started again",
                    can_pass=True,
                )


def trouble_of_disk(folder: Path) -> str:
    """Return why the disk of a folder will refuse labels; empty if nothing is known.

    Args:
        folder: directory of a state.
    """
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"{folder} cannot be reached: {error.strerror}"
    if disk.f_flag & os.ST_RDONLY:
        return f"the disk of {folder} is read-only"
    n_blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail  # some are kept for root
    free = n_blocks * disk.f_frsize
    return f"the disk of {folder} is full ({free >> 10} KiB free)" if free < _LEAST_BYTES else ""


def advice_for(refusal: str) -> str:
    """Return what to do about a refusal of SQLite, given its text."""
    return next((advice for word, advice in _ADVICE.items() if word in refusal), _ADVICE["I/O"])


def _identity(file: Path) -> Identity | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
