"""Transaction: writes that become durable together. And the statements that make the tables."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from plr_edge.store.rows import SCHEMA, TABLES, Row, checksum, key_of

APPLICATION = 0x504C5265  # `PLRe`, in the header of the file


class Transaction:
    """Writes that become durable together, or not at all; `Database.transaction` makes one."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def put(self, table: str, rows: Iterable[Row]) -> None:
        """Insert rows, in place of those of the same keys."""
        names = [*(column.split()[0] for column in TABLES[table]), "checksum"]
        marks = ",".join("?" * len(names))
        changes = ",".join(f"{name} = excluded.{name}" for name in names[1:])
        # OR REPLACE would write the page of the key's index too
        self._connection.executemany(
            f"INSERT INTO {table} VALUES ({marks})"
            f" ON CONFLICT ({names[0]}) DO UPDATE SET {changes}",
            ((*row, checksum(row)) for row in rows),
        )

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        """Delete rows by key."""
        self._connection.executemany(
            f"DELETE FROM {table} WHERE {key_of(table)} = ?", ((key,) for key in keys)
        )


def make_database(connection: Any) -> None:
    """Make the tables in a file that has none."""
    connection.execute("BEGIN IMMEDIATE")
    for table in TABLES:
        make_table(connection, table)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


def make_table(connection: Any, table: str) -> None:
    """Make one table."""
    connection.execute(f"CREATE TABLE {table} ({', '.join(TABLES[table])}, checksum INTEGER)")


def fact_of(connection: Any, name: str, errors: tuple[type[Exception], ...]) -> str | None:
    """Return a row of `meta` as text, None if there is no such row that is whole.

    Args:
        connection: an open connection.
        name: key of the row.
        errors: what reading a damaged file raises.
    """
    with suppress(*errors):
        row = connection.execute("SELECT * FROM meta WHERE key = ?", (name,)).fetchone()
        if row and row[-1] == checksum(row[:-1]):
            return str(row[1])
    return None
