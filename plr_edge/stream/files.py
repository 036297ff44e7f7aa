"""Image files as entries of a stream: their order, and paths read line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Repeatable, Stream, one_line, take_per_class
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
    base: Path = Path(),
    name: str = "standard input",
) -> Stream:
    """Read `path` or `path<TAB>label` from each line as it arrives.

    Args:
        lines: an open file, or any iterable of lines.
        strict: stop at an unreadable image.
        limit_per_class: maximum number of images per class.
        base: directory that paths are relative to.
        name: name of the lines, for messages.
    """
    entries = Repeatable(lambda: take_per_class(_line_entries(lines, base, name), limit_per_class))
    return Stream(entries, strict=strict, live=True)


def _line_entries(lines: Iterable[str], base: Path, name: str) -> Iterator[Entry]:
    try:
        for number, line in enumerate(lines, start=1):
            path, tab, label = line.rstrip("\r\n").partition("\t")
            if path:
                origin = f"{name} line {number}"
                yield file_entry(base / path, label if tab and label else None, None, origin)
    except UnicodeDecodeError:
        raise StreamError(f"{name} is not UTF-8 text; write one path per line") from None


def file_entry(
    path: Path, label: str | None, stamp_ns: int | None = None, origin: str | None = None
) -> Entry:
    """Describe an image file. Without a stamp, the modification time is used."""
    if stamp_ns is None:
        try:
            stamp_ns = path.stat().st_mtime_ns
        except (OSError, ValueError):
            stamp_ns = 0  # loading the file will report the error
    return Entry(partial(_load, path), label, stamp_ns, str(path), origin)


def _load(path: Path) -> np.ndarray:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device would never end
            raise StreamError(f"cannot read {one_line(path)}: it is not a file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise StreamError(f"cannot read {one_line(path)}: {reason}") from None
    return decode_values(data, str(path))
