"""Read small text files of /sys and /proc; what cannot be read is None."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return the file without surrounding blanks and NULs; None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the whole number in the file; None where it cannot be read or is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
