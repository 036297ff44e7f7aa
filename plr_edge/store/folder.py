"""The directory of a store: made, checked, locked by one process."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.files import sync_folder
from plr_edge.store.generations import FOLDER
from plr_edge.store.rows import Damage

_log = logging.getLogger(__name__)
_LOCK_WAIT_S = 0.8
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "afs", "fuse.sshfs", "9p")


class DamagedError(StateError):
    """A state is damaged, in a way that `repair` mends."""


def make_folder(path: Path) -> None:
    """Make the directory of a store where it is missing, and wait until its name is durable.

    Raises:
        StateError: it cannot be made, or is not ours alone.
    """
    try:
        path = path.absolute()
        for folder in (path, path / FOLDER):
            _check_own(folder)
        new = [folder for folder in path.parents if not folder.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / FOLDER).mkdir(mode=0o700, exist_ok=True)
        sync_folder(path)
        for folder in [path.parent, *(folder.parent for folder in new)]:
            with suppress(PermissionError):  # of a folder that may be entered but not listed
                sync_folder(folder)
        _check_own(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def locked(path: Path) -> int:
    """Take the lock, waiting a moment for one who only reads.

    Raises:
        StateError: another process holds it, or nothing can be locked here.
    """
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    until = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.02)
                continue
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise StateError(
                f"{path} is in use by process {holder}; stop it, or choose another --state"
            ) from None
        except OSError as error:
            os.close(lock)
            raise StateError(
                f"cannot lock {path}: {error.strerror}; choose a --state on a local disk"
            ) from None
    with suppress(OSError):  # a full disk; the name of the holder is only a help
        os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
    return lock


def warn_of_place(path: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Say so where a directory could be swapped by others, or lies on a network file system."""
    for folder in path.absolute().parents:
        with suppress(OSError):
            mode = folder.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                _log.warning("%s can be written by anybody, who could swap %s", folder, path)
    with suppress(OSError, ValueError):
        where, found = str(path.resolve()), ("", "")
        for line in mounts.read_text(errors="replace").splitlines():
            _, point, kind = line.split(" ")[:3]
            below = point == "/" or f"{where}/".startswith(f"{point}/")
            if below and len(point) >= len(found[0]):
                found = (point, kind)
        if found[1] in _NETWORK:
            _log.warning(
                "%s is on %s: what is written there is as sure as its server, and two machines "
                "may both get its lock; a local disk is meant",
                path, found[1],
            )  # fmt: skip


@contextmanager
def damage_as_error(path: Path) -> Iterator[None]:
    """Tell damage in one line, with what to do."""
    try:
        yield
    except Damage as error:
        raise DamagedError(f"{error}; `plr-edge repair {path}` saves what is whole") from None


def _check_own(path: Path) -> None:
    """Refuse a directory in which others could put something else.

    Raises:
        StateError: they could.
    """
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(facts.st_mode) or facts.st_uid not in (os.geteuid(), 0):
        raise StateError(f"{path} is a link, or another user's; choose another --state")
    if facts.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise StateError(f"{path} can be written by others; run `chmod 700 {path}`")


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(f"cannot write state in {path}: {error.strerror}; choose another --state")
