"""Reading a store that another command wrote, and where nothing can be written, a copy of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.store.database import FILE
from plr_edge.store.generations import State, any_file
from plr_edge.store.store import LABEL_BYTES, Store


class ReadOnlyStore(Store):
    """A copy, in a temporary folder, of a store on a medium that cannot be written."""

    _copy: tempfile.TemporaryDirectory[str] | None

    def __init__(
        self, path: str | Path, *, label_bytes: int = LABEL_BYTES, check_latents: bool = True
    ) -> None:
        """Copy and open it.

        Raises:
            StateError: it cannot be copied or read.
        """
        self._lock, self._copy = -1, None
        try:
            self._copy = tempfile.TemporaryDirectory(prefix="plr-edge-")
            shutil.copytree(path, self._copy.name, dirs_exist_ok=True, ignore=_what_is_not_ours)
            os.chmod(self._copy.name, 0o700)
            super().__init__(self._copy.name, label_bytes=label_bytes, check_latents=check_latents)
        except (OSError, shutil.Error) as error:
            self.close()
            raise StateError(
                f"{path} cannot be written, and not be copied either ({str(error)[:160]}); "
                "set TMPDIR to a folder with space"
            ) from None
        except BaseException:
            self.close()
            raise
        self.refusal = f"{path} cannot be written; nothing can be taught or changed there"

    def close(self) -> None:
        """Delete the copy."""
        super().close()
        if self._copy is not None:
            self._copy.cleanup()


def open_store(
    path: str | Path, *, label_bytes: int = LABEL_BYTES, check_latents: bool = True
) -> Store:
    """Open a store, or, on a medium that cannot be written, a copy that refuses every change.

    Raises:
        StateError: it cannot be opened.
    """
    path = Path(path)
    there = (path / FILE).is_file()
    writable = os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY
    kind = ReadOnlyStore if there and not writable else Store
    return kind(path, label_bytes=label_bytes, check_latents=check_latents)


def read_state(path: str | Path, groups: tuple[str, ...] | None = None) -> State:
    """Read the newest generation of a directory and verify every byte that is read.

    Raises:
        StateError: there is none, it is damaged, or another process holds it.
    """
    with opened_for_reading(path) as store:
        state = store.read(groups)
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
        raise StateError(f"{path} holds no state; make one with `plr-edge adapt --state {path}`")
    with open_store(path, check_latents=check_latents) as store:
        yield store


def _holds_state(path: Path) -> bool:
    try:
        return (path / FILE).exists() or (path / "state.json").exists() or any_file(path)
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}; check who owns it") from None


def _what_is_not_ours(folder: str, names: list[str]) -> list[str]:
    """Leave out the lock, and what is neither a file nor a folder."""
    paths = [Path(folder) / name for name in names]
    return [p.name for p in paths if p.name == "lock" or not (p.is_file() or p.is_dir())]
