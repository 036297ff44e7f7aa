"""Files that are there whole or not at all, and reading those that nobody vouches for."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import ConfigError

_MAX_FILE_BYTES = 4 << 30


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the device has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one.

    Raises:
        ConfigError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(partial, data)
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another place") from None


def sync_folder(path: Path) -> None:
    """Wait until the device has a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_regular(file: Path, most_bytes: int = _MAX_FILE_BYTES) -> bytes:
    """Read a regular file that is no link, and no larger than allowed.

    Raises:
        OSError: it is something else.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(0, "is no regular file")
        if facts.st_size > most_bytes:
            raise OSError(0, f"is larger than {most_bytes} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return opened.read(facts.st_size)  # a larger number would be reserved whole
    finally:
        os.close(descriptor)


def device_bytes_written(io: Path = Path("/proc/self/io")) -> int | None:
    """Return bytes that this process has caused to be written to devices; None if nobody counts."""
    with suppress(OSError, ValueError, IndexError):
        for line in io.read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return None


def write_new(file: Path, data: bytes) -> None:
    """Write a file that is not there yet, and wait until the device has its bytes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o600)
    try:
        view = memoryview(data)
        while view:  # a full disk or a signal may take only part
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
