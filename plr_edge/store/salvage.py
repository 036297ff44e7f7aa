"""Salvage: the rows that are whole in the bytes of a database, however damaged the rest is.

Reads SQLite's pages itself, so that a damaged header, root or table of contents costs only its own
page. Every leaf of every table is read; a row counts if it matches its own checksum.

Format: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from plr_edge.store.database import LOG
from plr_edge.store.rows import TABLES, Row, checksum

_PAGE_SIZES = (512, 4096)  # of this version, and of earlier ones
_HEADER, _FRAME_HEADER, _LOG_HEADER = 100, 24, 32
_LEAF = 0x0D
_BY_SHAPE = {
    (len(columns) + 1, "INTEGER" in columns[0]): table for table, columns in TABLES.items()
}
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)  # bytes of a value by its serial type, below 12
_DAMAGE = (IndexError, ValueError, struct.error, OverflowError)


def salvaged(file: Path) -> dict[str, list[Row]]:
    """Return the rows of each table that match their checksums, in the order of their keys."""
    assert len(_BY_SHAPE) == len(TABLES)  # the shape of a row says of which table it is
    # the header that states the size of a page may be damaged; few rows are whole by a wrong one
    found = [_salvaged(file, size) for size in _PAGE_SIZES]
    return max(found, key=lambda tables: sum(map(len, tables.values())))


def _salvaged(file: Path, page_bytes: int) -> dict[str, list[Row]]:
    found: dict[str, dict[Any, Row]] = {table: {} for table in TABLES}
    pages = _pages(file, page_bytes)
    for number, page in pages.items():
        for table, row in _rows(page, _HEADER if number == 1 else 0, pages, page_bytes):
            if row[0] not in found[table] or table != "labels":
                found[table][row[0]] = row
            elif found[table][row[0]][5] == "learned":  # of two, keep the one that was undone
                found[table][row[0]] = row
    return {table: [rows[key] for key in sorted(rows)] for table, rows in found.items()}


def schema_in_header(file: Path) -> int:
    """Return `user_version` from the header of the file, 0 if there is none."""
    with suppress(OSError, struct.error):
        head = file.read_bytes()[:_HEADER]
        return int(struct.unpack_from(">I", head, 60)[0])
    return 0


def _pages(file: Path, size: int) -> dict[int, bytes]:
    """Return every page by number; the one in the log, if there is one, is newer."""
    data = file.read_bytes() if file.is_file() else b""
    pages = {i // size + 1: data[i : i + size] for i in range(0, len(data), size)}
    log = file.with_name(file.name + LOG)
    data = log.read_bytes() if log.is_file() else b""
    salts, waiting = data[16:24], {}
    for at in range(_LOG_HEADER, len(data) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size):
        number, committed = struct.unpack_from(">II", data, at)
        if data[at + 8 : at + 16] != salts:
            break  # left from an earlier round of the log
        waiting[number] = data[at + _FRAME_HEADER : at + _FRAME_HEADER + size]
        if committed:
            pages |= waiting
            waiting = {}
    return pages


def _rows(
    page: bytes, at: int, pages: dict[int, bytes], page_bytes: int
) -> Iterator[tuple[str, Row]]:
    if len(page) < page_bytes or page[at] != _LEAF:
        return  # a part of a page, or none of a table
    (n_cells,) = struct.unpack_from(">H", page, at + 3)
    for i in range(min(n_cells, len(page) // 4)):
        with suppress(*_DAMAGE):
            (cell,) = struct.unpack_from(">H", page, at + 8 + 2 * i)
            size, start = _varint(page, cell)
            key, start = _varint(page, start)
            values = _values(_payload(page, start, size, pages))
            # SQLite stores an integer key as NULL, because it is the number of the row
            table = _BY_SHAPE.get((len(values), values[0] is None), "")
            if table and table != "meta":
                values[0] = key - (1 << 64) if key >> 63 else key  # an integer key is the number
            if table and values[-1] == checksum(tuple(values[:-1])):
                yield table, tuple(values[:-1])


def _payload(page: bytes, start: int, size: int, pages: dict[int, bytes]) -> bytes:
    page_bytes = len(page)
    most_local, least_local = page_bytes - 35, (page_bytes - 12) * 32 // 255 - 23
    if size > len(pages) * page_bytes:
        raise ValueError("longer than the file")
    if size <= most_local:
        return page[start : start + size]
    local = least_local + (size - least_local) % (page_bytes - 4)
    local = local if local <= most_local else least_local
    parts, left = [page[start : start + local]], size - local
    (following,) = struct.unpack_from(">I", page, start + local)
    while left > 0:
        overflow = pages.get(following, b"")
        (following,) = struct.unpack_from(">I", overflow)
        parts.append(overflow[4 : 4 + min(left, page_bytes - 4)])
        left -= page_bytes - 4
    return b"".join(parts)


def _values(record: bytes) -> list[Any]:
    end, at = _varint(record, 0)
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values, at = [], end
    for kind in kinds:
        size = _SIZES[kind] if kind < len(_SIZES) else (kind - 12) // 2
        values.append(_value(kind, record[at : at + size]))
        at += size
    return values


def _value(kind: int, data: bytes) -> Any:
    if kind == 0:
        return None
    if kind <= 6:
        return int.from_bytes(data, "big", signed=True)
    if kind == 7:
        return struct.unpack(">d", data)[0]
    if kind in (8, 9):
        return kind - 8
    if kind < 12:
        raise ValueError("no such type")
    return data.decode() if kind % 2 else data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, big-endian, and the position after it."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
