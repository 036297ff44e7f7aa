"""The directory of a store: made, locked by one process, and its damage told in one line."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.files import sync_folder
from plr_edge.store.database import Damage
from plr_edge.store.generations import FOLDER

_LOCK_WAIT_S = 0.8


def make_folder(path: Path) -> None:
    """Make the directory of a store where it is missing, and wait until its name is durable.

    Raises:
        StateError: it cannot be made, or is not ours alone.
    """
    try:
        path = path.absolute()
        new = [folder for folder in path.parents if not folder.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / FOLDER).mkdir(mode=0o700, exist_ok=True)
        sync_folder(path)
        for folder in [path.parent, *(folder.parent for folder in new)]:
            with suppress(PermissionError):  # of a folder that may be entered but not listed
                sync_folder(folder)
        facts = path.lstat()
    except OSError as error:
        raise _unwritable(path, error) from None
    if stat.S_ISLNK(facts.st_mode) or facts.st_uid not in (os.geteuid(), 0):
        raise StateError(f"{path} is a link, or another user's; choose another --state")
    if facts.st_mode & stat.S_IWOTH:
        raise StateError(f"{path} can be written by anybody; run `chmod 700 {path}`")


def locked(path: Path) -> int:
    """Take the lock, waiting a moment for one who only reads."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() < until:
                time.sleep(0.02)
                continue
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise StateError(
                f"{path} is in use by process {holder}; stop it, or choose another --state"
            ) from None
    with suppress(OSError):  # a full disk; the name of the holder is only a help
        os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
    return lock


@contextmanager
def damage_as_error(path: Path) -> Iterator[None]:
    try:
        yield
    except Damage as error:
        raise StateError(f"{error}; `plr-edge repair {path}` saves what is whole") from None


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(f"cannot write state in {path}: {error.strerror}; choose another --state")
