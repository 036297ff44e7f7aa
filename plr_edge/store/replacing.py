"""Replacing a damaged database by a repaired one, so that a power cut in between loses neither."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import StateError, may_pass
from plr_edge.files import sync_folder
from plr_edge.store.database import FILE, LOG
from plr_edge.store.generation_files import FOLDER, generation_files

BUILDING, REPAIRED = "repairing.db", "repaired.db"
RESTORING, RESTORED = "restoring", "restored"  # folders with a store that is to replace this one
REFUSED = "restored.refused"  # why the last one was not taken


def offer(path: Path) -> None:
    """Declare the database under `BUILDING` whole and durable, by giving it another name."""
    os.replace(path / BUILDING, path / REPAIRED)
    sync_folder(path)


def finish_repair(path: Path) -> bool:
    """Put a database that was offered in the place of the damaged one, if there is one.

    The damaged one is kept beside it, as `damaged-NANOSECONDS.db`, with its log. Power may fail
    after any step: the next start goes on from there.

    Returns:
        Whether there was one.

    Raises:
        StateError: the disk refuses.
    """
    if not (path / REPAIRED).exists():
        return False
    aside = path / f"damaged-{time.time_ns()}.db"
    try:
        for end in ("", LOG):
            with suppress(FileNotFoundError):
                os.replace(f"{path / FILE}{end}", f"{aside}{end}")
        sync_folder(path)  # else an old log may lie beside the new database after a cut
        os.replace(path / REPAIRED, path / FILE)
        sync_folder(path)
    except OSError as error:
        raise StateError(
            f"cannot put {path / REPAIRED} in place: {error.strerror}", can_pass=may_pass(error)
        ) from None
    return True


def take_restored(path: Path) -> bool:
    """Put a store that `restore` offered in the place of this one, if there is one.

    The database before is kept as `finish_repair` does. Power may fail after any step: the next
    start goes on from there.

    Returns:
        Whether there was one.

    Raises:
        StateError: the disk refuses.
    """
    offered = path / RESTORED
    if not offered.is_dir():
        return False
    try:
        for file in sorted((offered / FOLDER).glob("*")):
            os.replace(file, path / FOLDER / file.name)
        sync_folder(path / FOLDER)
        with suppress(FileNotFoundError):
            os.replace(offered / FILE, path / REPAIRED)
        sync_folder(path)
    except OSError as error:
        raise StateError(
            f"cannot take {offered} into use: {error.strerror}", can_pass=may_pass(error)
        ) from None
    finish_repair(path)
    shutil.rmtree(offered, ignore_errors=True)
    return True


def refuse_restored(path: Path, reason: str) -> None:
    """Delete a store that `restore` offered, and leave the reason for who offered it."""
    with suppress(OSError):
        (path / REFUSED).write_text(reason)
    shutil.rmtree(path / RESTORED, ignore_errors=True)


def damaged_databases(path: Path) -> list[Path]:
    """Return databases that were replaced, oldest first."""
    return sorted(path.glob("damaged-*.db"))


def has_lost_database(path: Path) -> bool:
    """Return whether a directory has parts of a state, but no database."""
    return not (path / FILE).exists() and bool(generation_files(path) or damaged_databases(path))


def expendable(path: Path) -> list[Path]:
    """Return the files of databases that were replaced, or never finished."""
    files = [*path.glob("damaged-*.db*"), *path.glob(f"{BUILDING}*")]
    return [file for file in files if file.is_file()]
