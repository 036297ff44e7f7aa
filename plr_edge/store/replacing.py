"""Replacing a damaged database by a repaired one, so that a cut in between loses neither."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.files import sync_folder
from plr_edge.store.database import FILE, LOG

BUILDING, REPAIRED = "repairing.db", "repaired.db"


def offer(path: Path) -> None:
    """Say that the database under `BUILDING` is whole and durable; it is never half of one."""
    os.replace(path / BUILDING, path / REPAIRED)
    sync_folder(path)


def finish_repair(path: Path) -> bool:
    """Put a database that was offered in the place of the damaged one, or do nothing.

    The damaged one is kept beside it, as `damaged-NANOSECONDS.db`, with its log. Every step can be
    the last one before a cut: the next start goes on from here.

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
        raise StateError(f"cannot put {path / REPAIRED} in place: {error.strerror}") from None
    return True
