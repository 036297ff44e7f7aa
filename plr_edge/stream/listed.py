"""Images listed in a file: a CSV with labels and stamps, or a text file of paths."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Repeatable, Stream, one_line
from plr_edge.stream.files import file_entry, finite, in_order, open_lines


def open_csv(
    path: Path, strict: bool, limit_per_class: int | None = None, order: str = "given"
) -> Stream:
    """Open a CSV with the columns `path` and, optionally, `label` and `stamp_ns`.

    Paths are relative to the CSV. An empty label means no label. Rows keep their order, or are
    sorted by their stamps in `time` order.

    Raises:
        StreamError: the file cannot be read, or has no such columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            entries = in_order(_rows(path, csv.DictReader(file)), order)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StreamError(f"cannot read {one_line(path)} ({one_line(error, 120)})") from None
    if not entries:
        raise _no_header(path)
    return finite(entries, strict, limit_per_class)


def open_txt(path: Path, strict: bool, limit_per_class: int | None = None) -> Stream:
    """Open a text file of `path` or `path<TAB>label` lines, which are read as needed.

    Paths are relative to the text file.
    """

    def entries() -> Iterator[Entry]:
        try:
            with open(path, encoding="utf-8-sig") as file:
                lines = open_lines(
                    file, strict, limit_per_class, base=path.parent, name=one_line(path)
                )
                yield from lines.entries
        except OSError as error:
            raise StreamError(f"cannot read {one_line(path)}: {error.strerror}") from None

    return Stream(Repeatable(entries), strict=strict)


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[Entry]:
    if "path" not in (reader.fieldnames or ()):
        raise _no_header(path)
    for row in reader:
        origin = f"{one_line(path)} line {reader.line_num}"
        if not row["path"]:
            raise StreamError(f"{origin} has no path; write the path of an image")
        text = row.get("stamp_ns")
        try:
            stamp_ns = int(text) if text else None
        except ValueError:
            shown = str(text)[:40]
            raise StreamError(f"{origin}: stamp_ns is {shown!r}; write nanoseconds") from None
        yield file_entry(path.parent / row["path"], row.get("label") or None, stamp_ns, origin)


def _no_header(path: Path) -> StreamError:
    return StreamError(f"{one_line(path)} needs a header with `path`, and a row for each image")
