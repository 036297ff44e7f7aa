"""Database: labels, latents, generations and events in SQLite, every row with its own checksum.

The only module that imports sqlite3. When `transaction` ends, what was written in it survives any
crash or power cut, as far as the device keeps its word about flushes.

Why these settings: EXCLUSIVE keeps the index of the log in memory, without which a database on a
full disk cannot be opened again; FULL syncs at every commit; one connection cannot meet SQLite's
WAL-reset bug (before 3.51.3); no mmap, as an I/O error under a map kills the process.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError
from plr_edge.store.rows import TABLES, Damage, Row, checksum, key_of

FILE = "store.db"
LOG = "-wal"  # what SQLite appends to the name of its log
SCHEMA = 2
_APPLICATION = 0x504C5265  # `PLRe`, in the header of the file
_PRAGMAS = (
    "page_size = 4096",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "journal_size_limit = 8388608",
    "cache_size = -1024",
    "temp_store = MEMORY",
)
_FETCHED = 500
# SQLite's own messages may quote damaged text, which then is no UTF-8
_ERRORS = (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError)
_ADVICE = {
    "locked": "another process uses it; stop that one, or choose another --state",
    "full": "free some space or choose another --state",
    "readonly": "it may not be written; check who owns it, or choose another --state",
    "unable to open": "check who owns it, or choose another --state",
    "I/O": "free some space, look at the disk, or choose another --state",
}


class Database:
    """One connection, opened anew after any error."""

    def __init__(self, folder: Path, name: str = FILE) -> None:
        """Open or make the database of a folder.

        Raises:
            StateError: it cannot be opened, is another program's or a newer version's.
            Damage: it is no longer a database.
        """
        self.file = folder / name
        self.lock = threading.RLock()  # a generation may be written while labels come in
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._connect()

    def close(self) -> None:
        """Fold the log into the database, and close for good; what another thread reads ends.

        Under the lock: SQLite crashes where a connection is closed while another thread is in it.
        """
        with self.lock:
            self._closed = True
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None

    def rows(self, table: str, where: str = "", values: Sequence[Any] = ()) -> Iterator[Row]:
        """Read rows, checksum verified and left out, in the order of their keys.

        Raises:
            Damage: a row does not match its checksum, or a page is malformed.
        """
        try:
            with self.lock:
                cursor = self._open().execute(
                    f"SELECT * FROM {table} {where and 'WHERE'} {where} ORDER BY {key_of(table)}",
                    values,
                )
            for row in self._fetched(cursor):
                if row[-1] != checksum(row[:-1]):
                    raise Damage(f"row {row[0]!r} of {table} does not match its checksum")
                yield row[:-1]
        except _ERRORS as error:
            raise self._failure(error) from None

    def _fetched(self, cursor: sqlite3.Cursor) -> Iterator[Row]:
        while True:
            with self.lock:
                rows = cursor.fetchmany(_FETCHED)
            if not rows:
                return
            yield from rows

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Group writes: all of them are durable when the block ends, or none ever happened.

        Raises:
            StateError: the disk refuses.
        """
        with self.lock:
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
        marks = ",".join("?" * (len(TABLES[table]) + 1))
        self._open().executemany(
            f"INSERT OR REPLACE INTO {table} VALUES ({marks})",
            ((*row, checksum(row)) for row in rows),
        )

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        """Delete rows by key; inside a transaction."""
        self._open().executemany(
            f"DELETE FROM {table} WHERE {key_of(table)} = ?", ((key,) for key in keys)
        )

    def value(self, query: str, values: Sequence[Any] = ()) -> Any:
        """Return the first value of a query that needs no checksum, such as a count."""
        try:
            with self.lock:
                row = self._open().execute(query, values).fetchone()
        except _ERRORS as error:
            raise self._failure(error) from None
        return row[0] if row else None

    def checkpoint(self) -> None:
        """Fold the log into the database and cut it to nothing, so that deleted rows are gone."""
        with self.lock, suppress(sqlite3.Error):
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def quick_check(self) -> str:
        """Return `ok`, or what SQLite finds wrong with its pages, in one line."""
        try:
            with self.lock:
                found = str(self._open().execute("PRAGMA quick_check(1)").fetchone()[0])
        except _ERRORS as error:
            found = str(error)
        return " ".join(found.split())[:120]

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise StateError(f"{self.file} is closed")
        if self._connection is None:
            self._connect()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        for end in ("", LOG):
            _check_plain(Path(f"{self.file}{end}"))
        try:
            _make_private(self.file)
            connection = sqlite3.connect(
                self.file, isolation_level=None, check_same_thread=False, timeout=0.5
            )
            try:
                # first: it decides how the log is opened
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                is_new = self._is_new(connection)
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                if is_new:
                    _make_tables(connection)
            except BaseException:
                connection.close()
                raise
        except _ERRORS as error:
            raise self._failure(error) from None
        self._connection = connection

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """Say whether there are no tables yet, and refuse those of others untouched."""
        have = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if not have:
            return True
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application not in (0, _APPLICATION) and not have & set(TABLES):
            raise StateError(f"{self.file} is another program's; choose another --state")
        if version > SCHEMA:
            refuse_newer(self.file, version, _schema_row(connection))
        if not set(TABLES) <= have:
            if have & set(TABLES):
                raise Damage(f"{self.file} is damaged (tables are missing)")
            raise StateError(f"{self.file} is another program's; choose another --state")
        return False

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
        if isinstance(error, sqlite3.ProgrammingError):  # another thread met an error
            return StateError(f"{self.file} was closed while it was read ({text}); try again")
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
            advice = next((a for word, a in _ADVICE.items() if word in text), _ADVICE["I/O"])
            return StateError(
                f"cannot use {self.file} ({text}); what was acknowledged is safe; {advice}"
            )
        return Damage(f"{self.file} is damaged ({text})")


def refuse_newer(file: Path, version: int, schema_row: str | None) -> None:
    """Refuse a store of a newer version, unless its own row says that the header is wrong.

    Raises:
        StateError: it is one.
    """
    if schema_row != str(SCHEMA):
        raise StateError(
            f"{file} has schema {version}; this version of plr-edge reads {SCHEMA}; update it, or "
            "choose another --state"
        )


def _schema_row(connection: sqlite3.Connection) -> str | None:
    """Return what the row `schema` says, None where it is no row of ours."""
    with suppress(*_ERRORS):
        row = connection.execute("SELECT * FROM meta WHERE key = 'schema'").fetchone()
        if row and row[-1] == checksum(row[:-1]):
            return str(row[1])
    return None


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for table, columns in TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)}, checksum INTEGER)")
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def _make_private(file: Path) -> None:
    """Make a missing file readable by its owner alone; SQLite's log takes over its mode."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StateError(
            f"cannot make {file}: {error.strerror}; free some space or choose another --state"
        ) from None


def _check_plain(file: Path) -> None:
    """Refuse what another file hides behind.

    Raises:
        StateError: it is a link, a pipe, a folder, or has a second name.
    """
    try:
        facts = file.lstat()
    except OSError:
        return
    if not stat.S_ISREG(facts.st_mode):
        raise StateError(f"{file} is no plain file; choose another --state")
    if facts.st_nlink != 1:
        raise StateError(
            f"{file} has a second name (a hard link), which would change with it; copy it instead"
        )
