"""Writing files atomically and durably; reading untrusted files, and those of /sys and /proc."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import ConfigError, may_pass

_MAX_FILE_BYTES = 4 << 30


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the device."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically: a reader sees either the old or the new content.

    Raises:
        ConfigError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(partial, data)
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}; choose another path", can_pass=may_pass(error)
        ) from None


def sync_folder(path: Path) -> None:
    """Wait until the entries of a folder are on the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_regular(file: Path, max_bytes: int = _MAX_FILE_BYTES) -> bytes:
    """Read a regular file, but no symbolic link, device or file above a size.

    Args:
        file: its path.
        max_bytes: largest size that is read.

    Raises:
        OSError: the file is refused or cannot be read.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "is not a regular file")
        if status.st_size > max_bytes:
            raise OSError(0, f"is larger than {max_bytes} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as opened:
            return opened.read(status.st_size)  # a larger number would allocate that much
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | None:
    """Return the text of a small file without surrounding blanks and NULs; None if unreadable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the integer in a small file; None if it is unreadable or not an integer."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def device_bytes_written(io: Path = Path("/proc/self/io")) -> int | None:
    """Return the bytes that this process has written to devices; None if the kernel does not count.

    Args:
        io: the kernel's counters.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in io.read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
    return None


def write_new(file: Path, data: bytes) -> None:
    """Create a file and wait until its bytes are on the device.

    Raises:
        FileExistsError: the file exists.
        OSError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, 0o600)
    try:
        view = memoryview(data)
        while view:  # a full disk or a signal may cause a short write
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
