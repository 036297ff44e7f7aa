"""Images listed in a file: a CSV with labels and stamps, or a text file of paths.

A list is read whole when it is opened, so that a bad row is found before anything is learned.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Stream, one_line
from plr_edge.stream.files import file_entry, finite, in_order, line_entries, windows_path

_NAMES = {"path": ("path",), "label": ("label", "class"), "stamp_ns": ("stamp_ns",)}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_csv(
    path: Path, strict: bool, limit_per_class: int | None = None, order: str = "given"
) -> Stream:
    """Open a CSV with the columns `path` and, optionally, `label` and `stamp_ns`.

    Capitals in the header and spaces after a comma do not count, and `class` is read as `label`.
    Paths are relative to the CSV. An empty label means no label. Rows keep their order, or are
    sorted by their stamps in `time` order.

    Raises:
        StreamError: the file cannot be read, has no such columns, or a row is wrong.
        LabelError: a label cannot be used.
    """
    rows = _Rows(path)
    entries = in_order(rows, order)
    if not entries:
        raise StreamError(f"{one_line(path)} holds no frame; write a row for each image below the "
                          "header")  # fmt: skip
    stream = finite(entries, strict, limit_per_class)
    return stream if stream.labelled else replace(stream, no_label=rows.no_label(len(entries)))


def open_txt(path: Path, strict: bool, limit_per_class: int | None = None) -> Stream:
    """Open a text file of `path` or `path<TAB>label` lines.

    Paths are relative to the text file.

    Raises:
        StreamError: the file cannot be read, or holds no line.
        LabelError: a label cannot be used.
    """
    name = one_line(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            entries = list(line_entries(file, path.parent, name))
    except OSError as error:
        raise StreamError(f"cannot read {name}: {error.strerror}") from None
    if not entries:
        raise StreamError(f"{name} holds no frame; write the path of an image in each line")
    return finite(entries, strict, limit_per_class)


class _Rows:
    """The rows of a CSV as entries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: list[str] = []
        self.columns: dict[str, int] = {}  # by `path`, `label` and `stamp_ns`

    def __iter__(self) -> Iterator[Entry]:
        name, at = one_line(self.path), 0  # lines before the row that is read
        try:
            with open(self.path, newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, skipinitialspace=True, strict=True)
                self.header = next(reader, [])
                at = reader.line_num
                self.columns = _columns(name, self.header)
                for row in reader:
                    if row:
                        yield self._entry(row, f"{name} line {reader.line_num}")
                    at = reader.line_num
        except UnicodeDecodeError:
            raise StreamError(f"{name} is not UTF-8 text{_encoding(self.path)}; save it as "
                              "UTF-8") from None  # fmt: skip
        except csv.Error as error:
            raise StreamError(
                f"cannot read {name}: in the row that begins at line {at + 1}, a quote is not "
                f"closed where the value ends ({one_line(error, 80)}); close it, or write it twice "
                "inside quotes"
            ) from None
        except OSError as error:
            raise StreamError(f"cannot read {name} ({one_line(error, 120)})") from None

    def no_label(self, n_rows: int) -> str:
        """Say why no row has a label, or return an empty text if none is meant."""
        if "label" in self.columns:
            column = one_line(self.header[self.columns["label"]], 40)
            return f"the column {column!r} of {one_line(self.path)} is empty in all {n_rows} rows"
        others = set(range(len(self.header))) - set(self.columns.values())
        if not any(self.header[at] for at in others):
            return ""
        return (
            f"{one_line(self.path)} has no column `label`; its columns are {_shown(self.header)}: "
            "name the one that holds the classes `label`"
        )

    def _entry(self, row: Sequence[str], origin: str) -> Entry:
        if len(row) > len(self.header) and any(row[len(self.header) :]):
            raise StreamError(
                f"{origin} has {len(row)} columns and the header {len(self.header)}; write quotes "
                "around a value that contains a comma"
            )
        values = {name: row[at] for name, at in self.columns.items() if at < len(row)}
        if not values.get("path"):
            raise StreamError(f"{origin} has no path; write the path of an image")
        if reason := windows_path(self.path.parent, values["path"]):
            raise StreamError(f"{origin}: {reason}")
        path, label = self.path.parent / values["path"], values.get("label", "")
        return file_entry(path, label if label.strip() else None, _stamp_ns(values, origin), origin)


def _columns(name: str, header: Sequence[str]) -> dict[str, int]:
    """Find the columns by the names in the header.

    Raises:
        StreamError: there is none for the path, or several for one thing.
    """
    named = [cell.strip().casefold() for cell in header]
    columns = {}
    for meaning, names in _NAMES.items():
        found = [at for known in names for at, cell in enumerate(named) if cell == known]
        if len(found) > 1 and named[found[0]] == named[found[1]]:
            raise StreamError(
                f"{name} has two columns `{named[found[0]]}`; its columns are {_shown(header)}: "
                "rename one of them"
            )
        if found:
            columns[meaning] = found[0]
    if "path" in columns:
        return columns
    if not header:
        raise StreamError(f"{name} is empty; write a header with `path`, and a row for each image")
    for separator, shown in _SEPARATORS.items():
        if len(header) == 1 and "path" in header[0].casefold().split(separator):
            raise StreamError(
                f"the columns of {name} are separated by {shown} (its header is "
                f"{_shown(header)}); separate them by commas"
            )
    raise StreamError(
        f"{name} needs a header with `path`; its first line has the columns {_shown(header)}"
    )


def _shown(header: Sequence[str]) -> str:
    return one_line(", ".join(f"`{cell}`" for cell in header), 160)


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        return " but UTF-16" if file.read(2) in _UTF_16 else ""


def _stamp_ns(values: Mapping[str, str], origin: str) -> int | None:
    text = values.get("stamp_ns")
    if not text:
        return None
    try:
        stamp_ns = int(text)
    except ValueError:
        stamp_ns = -1
    if not 0 <= stamp_ns < 2**63:
        raise StreamError(
            f"{origin}: stamp_ns is {text[:40]!r}; write whole nanoseconds, from 0 to 2^63 - 1"
        )
    return stamp_ns
