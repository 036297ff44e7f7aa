"""Reading a store that another command wrote, or a copy of it where nothing can be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from plr_edge.errors import StateError, may_pass
from plr_edge.store.database import FILE
from plr_edge.store.generation_files import State
from plr_edge.store.replacing import has_lost_database
from plr_edge.store.store import LABEL_BYTES, Store


def open_store(
    path: str | Path,
    *,
    label_bytes: int = LABEL_BYTES,
    check_latents: bool = True,
    upgraded: bool = True,
) -> Store:
    """Open a store, or, on a medium that cannot be written, a copy that refuses every change.

    See `Store` for the arguments.

    Raises:
        StateError: it cannot be opened.
    """
    path = Path(path)
    exists = (path / FILE).is_file()
    writable = os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY
    if writable or not exists:
        return Store(path, label_bytes=label_bytes, check_latents=check_latents, upgraded=upgraded)
    return _copy_of(path, label_bytes, check_latents)


def _copy_of(path: Path, label_bytes: int, check_latents: bool) -> Store:
    """Open a copy in a temporary folder, which goes when the store is closed."""
    try:
        with ExitStack() as closing:
            copy = closing.enter_context(tempfile.TemporaryDirectory(prefix="plr-edge-"))
            shutil.copytree(path, copy, dirs_exist_ok=True, ignore=_not_of_a_store)
            os.chmod(copy, 0o700)
            store = Store(
                copy, label_bytes=label_bytes, check_latents=check_latents, upgraded=False
            )
            store.freeze(
                f"{path} cannot be written; nothing can be taught or changed there",
                closing.pop_all().close,
            )
            return store
    except (OSError, shutil.Error) as error:
        raise StateError(
            f"{path} cannot be written, nor copied ({str(error)[:160]}); set TMPDIR to a folder "
            "with space",
            can_pass=may_pass(error),
        ) from None


def copied_state(path: Path, copy: Path) -> None:
    """Copy a state that another process may be using, and check that the copy is whole.

    Raises:
        OSError: it cannot be copied.
        StateError: there is nothing to copy, or it was written meanwhile.
    """
    if not (path / FILE).is_file():
        raise StateError(f"{path} holds no state")
    shutil.copytree(path, copy, dirs_exist_ok=True, ignore=_not_of_a_store)
    os.chmod(copy, 0o700)
    Store(copy).close()


def read_state(path: str | Path, groups: tuple[str, ...] | None = None) -> State:
    """Read the newest generation of a directory, verifying every byte that is read.

    Raises:
        StateError: there is none, it is damaged, or another process holds it.
    """
    with opened_for_reading(path) as store:
        state = store.generations.read(groups)
        if state is None:
            raise StateError(
                "; ".join([*store.notes, f"{path} holds no generation that could answer"])
                + f"; make one with `plr-edge adapt --state {path}`"
            )
        return state


@contextmanager
def opened_for_reading(path: str | Path, *, check_latents: bool = False) -> Iterator[Store]:
    """Open a store that must be there.

    Raises:
        StateError: there is none, or it cannot be read.
    """
    path = Path(path)
    if not _holds_state(path):
        if (path / "manifest.json").exists():
            raise StateError(f"{path} holds no state, only a bundle; give another --state")
        raise StateError(f"{path} holds no state; make one with `plr-edge adapt --state {path}`")
    with open_store(path, check_latents=check_latents, upgraded=False) as store:
        yield store


def _holds_state(path: Path) -> bool:
    try:
        return any((path / name).exists() for name in (FILE, "state.json")) or has_lost_database(
            path
        )
    except OSError as error:
        raise StateError(
            f"cannot read {path}: {error.strerror}; check who owns it", can_pass=may_pass(error)
        ) from None


def _not_of_a_store(folder: str, names: list[str]) -> list[str]:
    """Return the lock, and what is neither a file nor a folder."""
    paths = [Path(folder) / name for name in names]
    return [p.name for p in paths if p.name == "lock" or not (p.is_file() or p.is_dir())]
