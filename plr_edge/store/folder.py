"""The directory of a store: made, checked, locked by one process."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import StateError, may_pass
from plr_edge.files import sync_folder
from plr_edge.store.generation_files import FOLDER

_log = logging.getLogger(__name__)
_LOCK_WAIT_S = 0.8
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "afs", "fuse.sshfs", "9p")


def make_folder(path: Path) -> None:
    """Create the directory of a store if it is missing, and wait until its name is durable.

    Raises:
        StateError: it cannot be created, or others can write in it.
    """
    try:
        path = path.absolute()
        for folder in (path, path / FOLDER):
            _check_own(folder)
        _check_not_a_bundle(path)
        new = [folder for folder in path.parents if not folder.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / FOLDER).mkdir(mode=0o700, exist_ok=True)
        sync_folder(path)
        for folder in [path.parent, *(folder.parent for folder in new)]:
            with suppress(PermissionError):  # a folder that may be entered but not listed
                sync_folder(folder)
        _check_own(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def locked(path: Path) -> int:
    """Take the lock, waiting a moment for a process that only reads.

    Returns:
        The file descriptor that holds the lock until it is closed.

    Raises:
        StateError: another process holds it, or the file system has no locks.
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
                f"{path} is in use by process {holder}; stop it, or choose another --state",
                can_pass=True,
            ) from None
        except OSError as error:
            os.close(lock)
            raise StateError(
                f"cannot lock {path}: {error.strerror}; choose a --state on a local disk"
            ) from None
    with suppress(OSError):  # on a full disk the holder stays unnamed
        os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
    return lock


def warn_of_place(path: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Log a warning if others could replace a directory, or if it is on a network file system."""
    for folder in path.absolute().parents:
        with suppress(OSError):
            mode = folder.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                _log.warning("anybody can write in %s, and could replace %s", folder, path)
    with suppress(OSError, ValueError):
        where, found = str(path.resolve()), ("", "")
        for line in mounts.read_text(errors="replace").splitlines():
            _, point, kind = line.split(" ")[:3]
            below = point == "/" or f"{where}/".startswith(f"{point}/")
            if below and len(point) >= len(found[0]):
                found = (point, kind)
        if found[1] in _NETWORK:
            _log.warning(
                "%s is on %s: writes are only as durable as its server, and two machines may both "
                "get the lock; use a local disk",
                path,
                found[1],
            )


def make_private(file: Path) -> None:
    """Create a file readable by its owner alone if it is missing; SQLite's log takes over its mode.

    Raises:
        StateError: it cannot be created.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StateError(
            f"cannot make {file}: {error.strerror}; free some space or choose another --state",
            can_pass=may_pass(error),
        ) from None


def check_plain(file: Path) -> None:
    """Refuse a file behind which another one hides.

    Raises:
        StateError: it is a link, a pipe or a folder, or has a second name.
    """
    try:
        status = file.lstat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise StateError(f"{file} is not a plain file; choose another --state")
    if status.st_nlink != 1:
        raise StateError(
            f"{file} has a second name (a hard link), which would change with it; copy it instead"
        )


def _check_own(path: Path) -> None:
    """Refuse a directory whose content others could replace.

    Raises:
        StateError: they could.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
        raise StateError(f"{path} is a link, or another user's; choose another --state")
    if status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise StateError(f"{path} can be written by others; run `chmod 700 {path}`")


def _check_not_a_bundle(path: Path) -> None:
    """Refuse to start a state in the directory of a bundle.

    Raises:
        StateError: it is a bundle.
    """
    if not (path / "manifest.json").exists():
        return
    if not (path / "store.db").exists():
        raise StateError(f"{path} is a bundle; choose another --state, e.g. {path}-learned")
    _log.warning(
        "%s is both a bundle and a state, which earlier versions allowed; move all but the files "
        "of the bundle into a directory of its own",
        path,
    )


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"cannot write state in {path}: {error.strerror}; choose another --state",
        can_pass=may_pass(error),
    )
