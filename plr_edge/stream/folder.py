"""Images as files: a folder of classes, a folder in time order, a CSV, or paths on standard input."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Stream, decode_image

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key under which frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def open_folder(path: Path, strict: bool) -> Stream:
    """Open `class/image` folders, or images in the order of their names.

    A `labels.csv` in a flat folder is read as `open_csv` would.

    Raises:
        StreamError: there is no image.
    """
    if (path / "labels.csv").is_file():
        return open_csv(path / "labels.csv", strict)
    classes = sorted((p for p in path.iterdir() if p.is_dir() and p.name[0] != "."), key=natural)
    pairs = [(file, folder.name) for folder in classes for file in _images(folder)]
    flat = _images(path)
    if not pairs and not flat:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise StreamError(f"{path} holds no image; images end in {kinds}")
    files: list[tuple[Path, str | None]] = [*pairs] if pairs else [(file, None) for file in flat]
    entries = (_entry(file, label) for file, label in files)
    return Stream(entries, n_frames=len(files), strict=strict)


def open_csv(path: Path, strict: bool) -> Stream:
    """Open a CSV with a header: `path`, and `label` and `stamp_ns` where known.

    Paths are relative to the CSV. An empty label means that nobody said.

    Raises:
        StreamError: it is no such CSV.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StreamError(f"cannot read {path} ({error})") from None
    if not rows or "path" not in rows[0]:
        raise StreamError(f"{path} needs a header with `path`, and a row for each image")
    return Stream(_csv_entries(path, rows), n_frames=len(rows), strict=strict)


def open_lines(lines: Iterable[str], strict: bool) -> Stream:
    """Read `path` or `path<TAB>label` from each line, as they come."""
    return Stream(_line_entries(lines), strict=strict, chunked=False)


def _csv_entries(path: Path, rows: list[dict[str, str]]) -> Iterator[Entry]:
    for number, row in enumerate(rows, start=2):
        if not row["path"]:
            raise StreamError(f"{path} line {number} names no image")
        try:
            stamp_ns = int(row["stamp_ns"]) if row.get("stamp_ns") else None
        except ValueError:
            raise StreamError(
                f"{path} line {number}: stamp_ns is {row['stamp_ns'][:40]!r}; write nanoseconds"
            ) from None
        yield _entry(path.parent / row["path"], row.get("label") or None, stamp_ns)


def _line_entries(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        name, _, label = line.rstrip("\r\n").partition("\t")
        if name:
            yield _entry(Path(name), label or None)


def _images(folder: Path) -> list[Path]:
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(files, key=natural)


def _entry(path: Path, label: str | None, stamp_ns: int | None = None) -> Entry:
    if stamp_ns is None:
        try:
            stamp_ns = path.stat().st_mtime_ns
        except OSError:
            stamp_ns = 0  # loading it will say what is wrong
    return Entry(partial(_load, path), label, stamp_ns, str(path))


def _load(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StreamError(f"cannot read {path}: {reason}") from None
    return decode_image(data, str(path))
