"""Database: labels, latents, generations and events in SQLite, every row with its own checksum.

The only module that imports sqlite3. When `transaction` ends, what was written in it survives any
crash or power cut, as far as the device keeps its word about flushes.

Why these settings: EXCLUSIVE keeps the index of the log in memory, without which a database on a
full disk cannot be opened again; FULL syncs at every commit; one connection cannot meet SQLite's
WAL-reset bug (before 3.51.3); no mmap, as an I/O error under a map kills the process.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError

FILE = "store.db"
_TABLES = {
    "meta": ("key TEXT PRIMARY KEY", "value TEXT"),
    "labels": (
        "seq INTEGER PRIMARY KEY", "name TEXT", "predicted TEXT", "source TEXT", "time_ns INTEGER",
        "status TEXT", "use TEXT",
    ),
    "latents": ("seq INTEGER PRIMARY KEY", "record BLOB", "taps BLOB"),
    "generations": (
        "number INTEGER PRIMARY KEY", "upto INTEGER", "time_ns INTEGER", "in_use TEXT",
        "files TEXT",
    ),
    "events": ("id INTEGER PRIMARY KEY", "time_ns INTEGER", "kind TEXT", "text TEXT"),
}  # fmt: skip
_PRAGMAS = (
    "locking_mode = EXCLUSIVE",  # first: it decides how the log is opened
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "journal_size_limit = 8388608",
    "cache_size = -1024",
    "temp_store = MEMORY",
)
_FETCHED = 500
Row = tuple[Any, ...]
# SQLite's own messages may quote damaged text, which then is no UTF-8
_ERRORS = (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError)


class Damage(Exception):
    """A row or a page is not what was written."""


class Database:
    """One connection, opened anew after any error."""

    def __init__(self, folder: Path) -> None:
        """Open or make the database of a folder.

        Raises:
            StateError: it cannot be opened.
            Damage: it is no longer a database.
        """
        self.file = folder / FILE
        self._lock = threading.RLock()  # a generation may be written while labels come in
        self._connection: sqlite3.Connection | None = None
        self._connect()

    def close(self) -> None:
        """Fold the log into the database, and close."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def rows(self, table: str, where: str = "", values: Sequence[Any] = ()) -> Iterator[Row]:
        """Read rows, checksum verified and left out, in the order of their keys.

        Raises:
            Damage: a row does not match its checksum, or a page is malformed.
        """
        key = _columns(table)[0]
        try:
            with self._lock:
                cursor = self._open().execute(
                    f"SELECT * FROM {table} {where and 'WHERE'} {where} ORDER BY {key}", values
                )
            for row in self._fetched(cursor):
                if row[-1] != _checksum(row[:-1]):
                    raise Damage(f"row {row[0]!r} of {table} does not match its checksum")
                yield row[:-1]
        except _ERRORS as error:
            raise self._failure(error) from None

    def _fetched(self, cursor: sqlite3.Cursor) -> Iterator[Row]:
        while True:
            with self._lock:
                rows = cursor.fetchmany(_FETCHED)
            if not rows:
                return
            yield from rows

    def readable(self, table: str) -> Iterator[Row]:
        """Read what still matches its checksum of a table, however damaged the rest is."""
        low = 0
        try:
            connection = self._open()
            (highest,) = connection.execute(f"SELECT max(rowid) FROM {table}").fetchone()
            for low in range(1, int(highest or 0) + 1):
                with suppress(*_ERRORS):
                    row = connection.execute(
                        f"SELECT * FROM {table} WHERE rowid = ?", (low,)
                    ).fetchone()
                    if row and row[-1] == _checksum(row[:-1]):
                        yield row[:-1]
        except _ERRORS:
            return

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Group writes: all of them are durable when the block ends, or none ever happened.

        Raises:
            StateError: the disk refuses.
        """
        with self._lock:
            try:
                self._open().execute("BEGIN IMMEDIATE")
                yield self
                self._open().execute("COMMIT")
            except BaseException as error:
                self._abandon()
                if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                    raise self._failure(error) from None
                raise

    def put(self, table: str, rows: Iterable[Row]) -> None:
        """Insert or replace rows; inside a transaction."""
        marks = ",".join("?" * (len(_columns(table)) + 1))
        self._open().executemany(
            f"INSERT OR REPLACE INTO {table} VALUES ({marks})",
            ((*row, _checksum(row)) for row in rows),
        )

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        """Delete rows by key; inside a transaction."""
        column = _columns(table)[0]
        self._open().executemany(
            f"DELETE FROM {table} WHERE {column} = ?", ((key,) for key in keys)
        )

    def value(self, query: str, values: Sequence[Any] = ()) -> Any:
        """Return the first value of a query that needs no checksum, such as a count."""
        try:
            row = self._open().execute(query, values).fetchone()
        except _ERRORS as error:
            raise self._failure(error) from None
        return row[0] if row else None

    def checkpoint(self) -> None:
        """Fold the log into the database and cut it to nothing, so that deleted rows are gone."""
        with suppress(sqlite3.Error):
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def quick_check(self) -> str:
        """Return `ok`, or what SQLite finds wrong with its pages."""
        try:
            return str(self._open().execute("PRAGMA quick_check(1)").fetchone()[0])
        except _ERRORS as error:
            return str(error)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connect()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        try:
            connection = sqlite3.connect(
                self.file, isolation_level=None, check_same_thread=False, timeout=0.5
            )
            try:
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                have = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
                if not set(_TABLES) <= have:
                    connection.execute("BEGIN IMMEDIATE")
                    for table, columns in _TABLES.items():
                        connection.execute(
                            f"CREATE TABLE IF NOT EXISTS {table} "
                            f"({', '.join(columns)}, checksum INTEGER)"
                        )
                    connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
        except _ERRORS as error:
            raise self._failure(error) from None
        self._connection = connection

    def _abandon(self) -> None:
        """Give up a connection after an error: nothing is assumed about what it left behind."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.rollback()
            with suppress(sqlite3.Error):
                connection.close()

    def _failure(self, error: Exception) -> Exception:
        text = " ".join(str(error).split())[:120]
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
            return StateError(
                f"cannot use {self.file} ({text}); what was acknowledged is safe; free some "
                "space or choose another --state"
            )
        return Damage(f"{self.file} is damaged ({text})")


def _columns(table: str) -> list[str]:
    return [column.split()[0] for column in _TABLES[table]]


def _checksum(row: Row) -> int:
    crc = 0
    for value in row:
        data = value if isinstance(value, bytes) else repr(value).encode()
        crc = zlib.crc32(data, zlib.crc32(f"{type(value).__name__}{len(data)}:".encode(), crc))
    return crc
