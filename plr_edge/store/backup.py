"""Backup: a copy of a store that is in use, and putting such a copy back.

The process that uses a store holds its database for itself alone, so the copy is made from the
files. While nothing is folded from the log into the database, the database on disk stands still and
the log only grows: both copied in such a moment hold every label acknowledged before. A copy counts
once every row and every file of it was verified.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.files import sync_folder
from plr_edge.store.database import FILE, LOG, Database
from plr_edge.store.folder import check_plain, make_folder
from plr_edge.store.generation_files import FOLDER
from plr_edge.store.generations import GenerationInfo
from plr_edge.store.reading import opened_for_reading
from plr_edge.store.replacing import REFUSED, RESTORED, RESTORING

_TRIES = 30
_PAUSE_S = 0.2
_STILL_NS = 100_000_000  # since the last change, as times of files are only as fine as ticks


@dataclass(frozen=True)
class BackupReport:
    """What a backup holds.

    Attributes:
        labels: number of labels.
        generations: number of generations.
        n_bytes: bytes of its files.
    """

    labels: int
    generations: int
    n_bytes: int


def back_up(path: Path, target: Path) -> BackupReport:
    """Copy a store, which may be in use. Tokens and certificates are left out.

    Args:
        path: directory of the store.
        target: directory of the copy, which must not exist.

    Raises:
        StateError: there is no store, it is damaged, or the copy cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise StateError(f"{target} exists already; choose another directory for the copy")
    if not (path / FILE).is_file():
        raise StateError(f"{path} holds no state; there is nothing to copy")
    why = ""
    try:
        for _ in range(_TRIES):
            try:
                if _copied(path, target):
                    return _verified(target)
                why = "it changes all the time"
            except (StateError, FileNotFoundError) as error:
                why = str(error).replace(str(target), str(path))
            shutil.rmtree(target, ignore_errors=True)
            time.sleep(_PAUSE_S)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise StateError(
            f"cannot copy {path} to {target}: {error.strerror}; be the user that runs the robot, "
            "and check the space"
        ) from None
    raise StateError(f"no whole copy of {path} could be made ({why})")


def restore(backup: Path, path: Path) -> BackupReport:
    """Offer a backup to a store in place of what it holds. Its next start or its robot takes it.

    Args:
        backup: from `back_up`.
        path: directory of the store, which is made if it is missing.

    Raises:
        StateError: the backup is not whole, or cannot be copied.
    """
    report = _verified(backup)
    make_folder(path)
    new, offered = path / RESTORING, path / RESTORED
    try:
        for folder in (new, offered):
            shutil.rmtree(folder, ignore_errors=True)
        (path / REFUSED).unlink(missing_ok=True)
        if not _copied(backup, new):
            raise StateError(f"{backup} is changing; give a copy that `plr-edge backup` made")
        os.replace(new, offered)
        sync_folder(path)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise StateError(f"cannot copy {backup} into {path}: {error.strerror}") from None
    return report


def outcome(path: Path) -> bool:
    """Return whether the store that was offered is in use.

    Raises:
        StateError: the process that uses the directory has refused it.
    """
    if (path / RESTORED).is_dir():
        return False
    with suppress(FileNotFoundError):
        reason = (path / REFUSED).read_text()
        (path / REFUSED).unlink(missing_ok=True)
        raise StateError(f"{path} was not restored: {reason}")
    return True


def _copied(path: Path, target: Path) -> bool:
    """Copy a database with its log and its generations; return whether it stood still meanwhile."""
    database, log = path / FILE, path / f"{FILE}{LOG}"
    before = _stamp(database)
    if time.time_ns() - before[-1] < _STILL_NS:
        time.sleep(_STILL_NS / 1e9)
        before = _stamp(database)
    (target / FOLDER).mkdir(parents=True)
    for folder in (target, target / FOLDER):
        folder.chmod(0o700)
    _copy(database, target / FILE)
    with suppress(FileNotFoundError):
        _copy(log, target / log.name)
    if _stamp(database) != before:
        return False
    copy = Database(target)
    try:
        rows = [GenerationInfo.from_row(row) for row in copy.rows("generations")]
        names = {str(entry["name"]) for info in rows for entry in info.entries.values()}
        copy.checkpoint()
    finally:
        copy.close()
    for name in sorted(names):
        _copy(path / FOLDER / name, target / FOLDER / name)
    for folder in (target / FOLDER, target):
        sync_folder(folder)
    return True


def _copy(source: Path, target: Path) -> None:
    check_plain(source)
    shutil.copyfile(source, target)
    target.chmod(0o600)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _stamp(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _verified(path: Path) -> BackupReport:
    """Read every row and every file of a copy.

    Raises:
        StateError: one of them is damaged.
    """
    with opened_for_reading(path, check_latents=True) as store:
        if damage := list(store.generations.damage().values()):
            raise StateError(damage[0])
        report = BackupReport(len(store.labels), len(store.generations), store.n_bytes)
    with suppress(OSError):
        (path / "lock").unlink()
    return report
