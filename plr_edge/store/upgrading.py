"""Upgrading: a database that an earlier version made, rewritten in the form of this one.

An earlier version can open what comes out of it, so that an installation can be rolled back.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import StateError, may_pass
from plr_edge.files import sync_folder
from plr_edge.store.database import FILE, LOG, PAGE_BYTES, Database
from plr_edge.store.rows import DamagedError

_log = logging.getLogger(__name__)
UPGRADING = "upgrading.db"


def upgrade(path: Path) -> bool:
    """Rewrite the database of a directory, if its pages are larger than those of this version.

    Power may fail at any instant: the directory then holds the old database or the new one. If the
    disk refuses, the old one stays in use.

    Args:
        path: directory of a store, whose lock is held.

    Returns:
        Whether it was rewritten.

    Raises:
        StateError: the database cannot be opened, or the disk fails.
    """
    try:
        return _upgraded(path, path / UPGRADING)
    except OSError as error:
        raise StateError(
            f"cannot rewrite {path / FILE} in the form of this version: {error.strerror}; check "
            "the disk; what was acknowledged is safe",
            can_pass=may_pass(error),
        ) from None


def _upgraded(path: Path, new: Path) -> bool:
    with suppress(FileNotFoundError):
        new.unlink()
    if not (path / FILE).exists():
        return False
    database = Database(path)
    try:
        if database.page_bytes == PAGE_BYTES or database.quick_check() != "ok":
            return False  # what is damaged must be found before it is copied
        if not database.checkpoint():
            return False
        database.copy_to(new)
    except DamagedError:
        raise
    except StateError as error:
        _log.warning("%s stays in the form of an earlier version: %s", path / FILE, error)
        with suppress(OSError):
            new.unlink()
        return False
    finally:
        database.close()
    if (path / f"{FILE}{LOG}").exists():  # it would be read as a log of the new database
        return False
    os.replace(new, path / FILE)
    sync_folder(path)
    _log.info("%s was rewritten in the form of this version", path / FILE)
    return True
