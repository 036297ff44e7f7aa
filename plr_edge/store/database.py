"""Database: labels, latents, generations, events and requests in SQLite, a checksum in every row.

The only module that imports sqlite3. When `transaction` ends, what was written in it survives any
crash or power cut, as far as the device keeps its word about flushes.

Why these settings: EXCLUSIVE keeps the index of the log in memory, so that a database on a full
disk can be opened again; FULL syncs at every commit; one connection cannot meet SQLite's WAL-reset
bug (before 3.51.3); no mmap, as an I/O error under a map kills the process.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import StateError, one_line
from plr_edge.store.folder import check_plain, make_private
from plr_edge.store.place import OpenFiles, advice_for
from plr_edge.store.rows import (
    ADDED,
    MINOR,
    SCHEMA,
    TABLES,
    DamagedError,
    Row,
    checksum,
    key_of,
    meta,
    refuse_newer,
)
from plr_edge.store.transaction import APPLICATION, Transaction, fact_of, make_database, make_table

FILE = "store.db"
LOG = "-wal"  # what SQLite appends to the name of its log
# a label touches a dozen pages, each of which is written to the log as a whole: 38 kB with pages of
# 4096 bytes, 15 kB with these
PAGE_BYTES = 512
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "wal_autocheckpoint = 8192",  # pages, 4 MiB
    "journal_size_limit = 8388608",
    "cache_size = -1024",
    "temp_store = MEMORY",
)
_FETCHED = 500
# SQLite's own messages may quote damaged text that is not UTF-8
_ERRORS = (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError)


class Database:
    """One connection, opened again after any error.

    Attributes:
        file: the database file.
        lock: held by every transaction.
        refusal: why nothing may be written; empty if it may.
        missing: tables that read as empty until the first transaction makes them.
        on_begin: called in every transaction, with whether a commit before it failed.
    """

    def __init__(self, folder: Path, name: str = FILE) -> None:
        """Open the database of a folder, or create it.

        Raises:
            StateError: it is damaged, unreadable, another program's or a newer version's.
        """
        self.file = folder / name
        self.lock = threading.RLock()  # a generation may be written while labels come in
        self.refusal = ""
        self.missing: set[str] = set()
        self.on_begin: Callable[[Transaction, bool], None] = lambda tx, in_doubt: None
        self._in_doubt = False
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._files = OpenFiles(self.file, Path(f"{self.file}{LOG}"))
        self._connect()

    def close(self) -> None:
        """Fold the log into the database, and close for good; other threads can read no more."""
        with self.lock:  # SQLite crashes if a connection is closed while a thread is in it
            self._closed = True
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                if connection is not None:
                    connection.close()

    def let_go(self) -> None:
        """Close until the next use. Hold `lock`, and replace the file meanwhile."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._files.forget()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, table: str, where: str = "", values: Sequence[Any] = ()) -> Iterator[Row]:
        """Read rows in the order of their keys, without their checksums, which are verified.

        Raises:
            DamagedError: a row does not match its checksum, or a page is malformed.
        """
        query = f"SELECT * FROM {table} {where and 'WHERE'} {where} ORDER BY {key_of(table)}"
        try:
            with self.lock:
                connection = self._open()
                if table in self.missing:
                    return
                cursor = connection.execute(query, values)
            while rows := self._next(cursor):
                for row in rows:
                    if row[-1] != checksum(row[:-1]):
                        raise self.damaged(f"row {row[0]!r} of {table} does not match its checksum")
                    yield row[:-1]
        except _ERRORS as error:
            raise self._failure(error) from None

    def _next(self, cursor: sqlite3.Cursor) -> list[Row]:
        with self.lock:
            return cursor.fetchmany(_FETCHED)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Group writes: all of them are durable when the block ends, or none ever happened.

        One thread at a time is inside. A commit that fails may have reached the disk: its writes
        are in doubt until the next transaction, whose `on_begin` can undo them.

        Raises:
            StateError: nothing may be written, or the disk refuses.
        """
        if self.refusal:
            raise StateError(self.refusal)
        with self.lock:
            self._files.check()
            try:
                connection = self._open()
                transaction = Transaction(connection)
                connection.execute("BEGIN IMMEDIATE")
                self._add_missing(connection, transaction)
                self.on_begin(transaction, self._in_doubt)
                self._in_doubt = True
                yield transaction
                connection.execute("COMMIT")
            except BaseException as error:
                self._abandon()
                if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                    raise self._failure(error) from None
                raise
            self._files.check()  # nothing is durable in a file that was deleted
            self._in_doubt = False

    def select(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a query that needs no checksum, e.g. counts."""
        try:
            with self.lock:
                return list(self._open().execute(query, values))
        except _ERRORS as error:
            raise self._failure(error) from None

    def value(self, query: str) -> Any:
        """Return the first value of a query that needs no checksum."""
        rows = self.select(query)
        return rows[0][0] if rows else None

    def checkpoint(self) -> bool:
        """Fold the log into the database and empty it, so that no deleted row is left in it.

        Returns:
            Whether it succeeded; if not, it is done when the database is closed.
        """
        with self.lock, suppress(sqlite3.Error):
            busy = self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return not busy
        return False

    @property
    def page_bytes(self) -> int:
        """Size of a page; earlier versions made databases with larger ones."""
        return int(self.value("PRAGMA page_size"))

    def copy_to(self, file: Path) -> None:
        """Write a copy into a new file, of pages of `PAGE_BYTES`, and wait until it is durable.

        Raises:
            StateError: the disk refuses; part of the file may be there.
        """
        check_plain(file)
        make_private(file)
        try:
            with self.lock:
                self._open().execute(f"PRAGMA page_size = {PAGE_BYTES}")
                self._open().execute("VACUUM INTO ?", (str(file),))
            with open(file, "rb") as copy:
                os.fsync(copy.fileno())
        except (*_ERRORS, OSError) as error:
            raise self._failure(error) from None

    def quick_check(self) -> str:
        """Return `ok`, or what SQLite finds wrong with its pages, in one line."""
        try:
            with self.lock:
                found = str(self._open().execute("PRAGMA quick_check(1)").fetchone()[0])
        except _ERRORS as error:
            found = str(error)
        return one_line(found, 120)

    def damaged(self, text: str) -> DamagedError:
        """Return the error for damage, with what to do about it."""
        return DamagedError(f"{text}; `plr-edge repair {self.file.parent}` saves what is whole")

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise StateError(f"{self.file} is closed")
        if self._connection is None:
            self._connect()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        self._files.check(1)  # a new log has been made since
        for end in ("", LOG):
            check_plain(Path(f"{self.file}{end}"))
        make_private(self.file)
        try:
            connection = sqlite3.connect(
                self.file, isolation_level=None, check_same_thread=False, timeout=0.5
            )
            try:
                # before anything is read: they decide on a new file, and how the log is opened
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                is_new = self._is_new(connection)
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                if is_new:
                    make_database(connection)
            except BaseException:
                connection.close()
                raise
        except _ERRORS as error:
            raise self._failure(error) from None
        self._connection = connection
        self._files.remember()

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """Say whether there are no tables yet, and refuse those of others untouched."""
        have = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if not have:
            return True
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        ours, missing = have & set(TABLES), set(TABLES) - have
        if not ours and application != APPLICATION:
            raise StateError(f"{self.file} is another program's; choose another --state")
        if version > SCHEMA:
            refuse_newer(self.file, version, fact_of(connection, "schema", _ERRORS))
        is_older = fact_of(connection, "schema_minor", _ERRORS) != str(MINOR)
        if missing - ADDED or (missing and not is_older):
            raise self.damaged(f"{self.file} is damaged (tables are missing)")
        self.missing = missing
        return False

    def _add_missing(self, connection: sqlite3.Connection, transaction: Transaction) -> None:
        if self.missing:
            for table in self.missing:
                make_table(connection, table)
            transaction.put("meta", meta({"schema_minor": MINOR}))
            self.missing = set()  # `_connect` finds them again if this transaction fails

    def _abandon(self) -> None:
        """Give up a connection after an error: nothing is assumed about what it left behind."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.rollback()
            with suppress(sqlite3.Error):
                connection.close()

    def _failure(self, error: Exception) -> StateError:
        text = one_line(error, 120)
        if isinstance(error, sqlite3.ProgrammingError):  # another thread met an error
            return StateError(f"{self.file} was closed in use ({text}); try again", can_pass=True)
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
            return StateError(
                f"cannot use {self.file} ({text}); what was acknowledged is safe; "
                f"{advice_for(text)}",
                can_pass="unable to open" not in text,
            )
        return self.damaged(f"{self.file} is damaged ({text})")
