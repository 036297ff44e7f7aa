"""Requests with a key that changed something, and what was answered: such a request acts only once.

They are kept by number and by age, whichever is reached first.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plr_edge.errors import StateError
from plr_edge.store.database import Database
from plr_edge.store.labels import Label
from plr_edge.store.rows import DamagedError, Row
from plr_edge.store.transaction import Transaction

_log = logging.getLogger(__name__)
MAX_REQUESTS = 10_000
MAX_AGE_S = 24 * 3600.0
_OLD, _OLD_PREFIX = "keys", "key "  # facts that held the answers before the table did


@dataclass(frozen=True)
class TeachRequest:
    """A request that changes labels: it teaches them, takes them back, or confirms them.

    Attributes:
        key: chosen by the client, so that the request may come again; None keeps no answer.
        name: the class that it teaches; empty if it is of another kind.
        answer: returns the answer, which fits JSON, given the labels as they are stored.
    """

    key: str | None
    name: str
    answer: Callable[[Sequence[Label]], Mapping[str, Any]]


class RequestLog:
    """The table `requests`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def answers(self) -> dict[str, dict[str, Any]]:
        """Return what was answered, by key, oldest first."""
        return {row[1]: json.loads(row[5]) for row in self._database.rows("requests")}

    def add(self, tx: Transaction, request: TeachRequest | None, labels: Sequence[Label]) -> None:
        """Keep the answer to a request, if there is one, with the labels that it changed."""
        if request is None:
            return
        seq, answer = max((label.seq for label in labels), default=0), request.answer(labels)
        if request.key is not None:
            self._append(tx, request.key, request.name, seq, answer)

    def delete_after(self, tx: Transaction, seq: int) -> None:
        """Delete answers to requests that taught a label after this one."""
        tx.delete(
            "requests", [row[0] for row in self._database.rows("requests", "seq > ?", (seq,))]
        )

    def forget(self, tx: Transaction, name: str) -> int:
        """Delete answers to requests that name a class, by their keys too; returns how many."""
        quoted = json.dumps(name)
        rows = list(self._database.rows("requests"))
        about = [
            number for number, key, own, *_, answer in rows
            if own == name or name in key or quoted in answer
        ]  # fmt: skip
        tx.delete("requests", about)
        return len(about)

    def upgrade(self) -> None:
        """Take over answers that an older version kept, unless the disk refuses."""
        if not self._old_facts():
            return
        try:
            with self._database.transaction() as tx:
                self.move_old(tx)
        except DamagedError:
            raise
        except StateError as error:  # the next start tries again
            _log.warning("answers to earlier requests are not available: %s", error)

    def move_old(self, tx: Transaction) -> None:
        """Move answers from the facts, where older versions keep them, to the table."""
        facts = self._old_facts()
        for fact, value in facts:
            old = json.loads(value)
            answers = old if fact == _OLD else {fact.removeprefix(_OLD_PREFIX): old}
            for key, answer in answers.items():
                last = int(answer.get("first", 0)) + int(answer.get("taught", 0)) - 1
                self._append(tx, key, str(answer.get("label", "")), max(last, 0), answer)
        tx.delete("meta", [fact for fact, _ in facts])

    def _old_facts(self) -> list[Row]:
        where = "key = ? OR substr(key, 1, ?) = ?"
        return list(self._database.rows("meta", where, (_OLD, len(_OLD_PREFIX), _OLD_PREFIX)))

    def _append(
        self, tx: Transaction, key: str, name: str, seq: int, answer: Mapping[str, Any]
    ) -> None:
        newest = int(self._database.value("SELECT max(id) FROM requests") or 0) + 1
        now_ns = time.time_ns()
        old = self._database.rows("requests", "time_ns < ?", (now_ns - int(MAX_AGE_S * 1e9),))
        tx.delete("requests", [row[0] for row in old])
        tx.put("requests", [(newest, key, name, seq, now_ns, json.dumps(answer))])
        if newest > MAX_REQUESTS:
            tx.delete("requests", [newest - MAX_REQUESTS])
