"""A state that a failed command made, and that holds nothing yet, is removed again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plr_edge.errors import LabelError, StateError
from plr_edge.store.database import FILE
from plr_edge.store.store import Store


@contextmanager
def discarded_if_blank(path: Path) -> Iterator[None]:
    """Remove the state if it was made inside this block, which failed before a label was taught.

    After a refused label it stays: the user corrects the stream, and gives the same state again.

    Args:
        path: directory of the state. It is never removed if it existed before.
    """
    existed = path.exists() or path.is_symlink()
    try:
        yield
    except Exception as error:
        if not existed and not isinstance(error, LabelError) and _is_blank(path):
            shutil.rmtree(path, ignore_errors=True)
        raise


def _is_blank(path: Path) -> bool:
    """Return whether a state has never held a label. A state in use or damaged is not blank."""
    if not (path / FILE).is_file():
        return False
    with suppress(StateError), Store(path) as store:
        return store.last_seq == 0
    return False
