"""Image files as entries of a stream: their order, and paths read line by line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import (
    Entry,
    Repeatable,
    Stream,
    one_line,
    take_per_class,
)
from plr_edge.stream.content import digest_of_file
from plr_edge.stream.decode import decode_values

ORDERS = ("given", "time")


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sort key that puts frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def in_order(entries: Iterable[Entry], order: str) -> list[Entry]:
    """Keep entries as `given`, or sort them by `time`: by stamp, then by name.

    Raises:
        StreamError: there is no such order.
    """
    if order not in ORDERS:
        raise StreamError(f"order is {order[:40]!r}; it must be one of {', '.join(ORDERS)}")
    if order == "given":
        return list(entries)
    return sorted(entries, key=lambda e: (e.stamp_ns, natural(Path(e.source))))


def finite(entries: list[Entry], strict: bool, limit_per_class: int | None) -> Stream:
    """Make a stream of entries that are all known."""
    taken = list(take_per_class(entries, limit_per_class))
    labelled = any(entry.label is not None for entry in taken)
    return Stream(taken, n_frames=len(taken), strict=strict, labelled=labelled)


def open_lines(
    lines: Iterable[str],
    strict: bool,
    limit_per_class: int | None = None,
    *,
    name: str = "standard input",
) -> Stream:
    """Read `path` or `path<TAB>label` from each line as it arrives.

    Args:
        lines: an open file, or any iterable of lines.
        strict: stop at an unreadable image.
        limit_per_class: maximum number of images per class.
        name: name of the lines, for messages.
    """
    entries = Repeatable(lambda: take_per_class(line_entries(lines, Path(), name), limit_per_class))
    return Stream(entries, strict=strict, live=True)


def line_entries(lines: Iterable[str], base: Path, name: str) -> Iterator[Entry]:
    """Yield an entry for each line that is not empty.

    Args:
        lines: `path` or `path<TAB>label`. A label that consists of spaces counts as missing.
        base: directory that paths are relative to.
        name: name of the lines, for messages.

    Raises:
        StreamError: they are not UTF-8.
    """
    try:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix("\ufeff") if number == 1 else line
            path, _, label = line.rstrip("\r\n").partition("\t")
            if line.strip():
                origin = f"{name} line {number}"
                entry = file_entry(base / path, label if label.strip() else None, None, origin)
                reason = windows_path(base, path)
                if not path.strip():
                    reason = "no path stands before the tab"
                if reason:
                    entry = replace(
                        entry, load=partial(_refuse, f"{origin}: {reason}"), digest=None
                    )
                yield entry
    except UnicodeDecodeError:
        raise StreamError(f"{name} is not UTF-8 text; write one path per line") from None


def windows_path(base: Path, path: str) -> str:
    """Say that a path was written on Windows and cannot be found here. Empty if it can be."""
    if os.sep == "\\" or "\\" not in path:
        return ""
    try:
        if (base / path).exists():
            return ""
    except (OSError, ValueError):  # a name that is too long or not allowed
        pass
    return f"{one_line(path, 80)} is a path of Windows; write / instead of \\"


def _refuse(reason: str) -> np.ndarray:
    raise StreamError(reason)


def file_entry(
    path: Path, label: str | None, stamp_ns: int | None = None, origin: str | None = None
) -> Entry:
    """Describe an image file. Without a stamp, the modification time is used."""
    if stamp_ns is None:
        try:
            stamp_ns = path.stat().st_mtime_ns
        except (OSError, ValueError):
            stamp_ns = 0  # loading the file will report the error
    digest = partial(digest_of_file, path)
    return Entry(partial(_load, path), label, stamp_ns, str(path), origin, digest)


def _load(path: Path) -> np.ndarray:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device would never end
            raise StreamError(f"cannot read {one_line(path)}: it is not a file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise StreamError(f"cannot read {one_line(path)}: {reason}") from None
    return decode_values(data, str(path))
