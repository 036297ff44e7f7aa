"""Operations: changes that were asked for, by number, so that a slow one can be asked about.

A request with a key that comes again is the same operation. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from plr_edge.errors import PlrEdgeError

MAX_RUNNING, _MAX_KEPT = 64, 1_000
RUNNING, DONE, FAILED = "running", "done", "failed"


class KeyReusedError(PlrEdgeError):
    """A key came again with another request."""


class TooManyError(PlrEdgeError):
    """Too many changes are waiting already."""


@dataclass(frozen=True)
class Operation:
    """A change that was asked for.

    Attributes:
        number: what it can be asked for by.
        kind: what it does, e.g. `undo`.
        key: idempotency key of the request, if it had one.
        digest: identifies the request apart from its key.
        outcome: the answer, or the error.
    """

    number: str
    kind: str
    key: str | None
    digest: str
    outcome: Future[Any]

    @property
    def state(self) -> str:
        """One of `running`, `done`, `failed`."""
        if not self.outcome.done():
            return RUNNING
        failed = self.outcome.cancelled() or self.outcome.exception() is not None
        return FAILED if failed else DONE


class Operations:
    """The newest operations since the start. Any thread may use it."""

    def __init__(self, call: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        """Start without any.

        Args:
            call: has something done between two frames.
        """
        self._call, self._lock = call, threading.Lock()
        self._by_number: dict[str, Operation] = {}
        self._by_key: dict[str, Operation] = {}

    def begin(
        self, kind: str, act: Callable[[], Any], key: str | None = None, digest: str = ""
    ) -> Operation:
        """Begin an operation, unless one with this key runs or is done.

        Args:
            kind: what it does.
            act: does it, between two frames.
            key: idempotency key of the request.
            digest: identifies the request apart from its key.

        Raises:
            KeyReusedError: the key came with another request before.
            TooManyError: too many are running. Nothing was begun.
        """
        with self._lock:
            if key is not None and (known := self._by_key.get(key)) is not None:
                if known.digest != digest:
                    raise KeyReusedError(f"the key {key} came with another request before")
                if known.state != FAILED:
                    return known
            running = sum(each.state == RUNNING for each in self._by_number.values())
            if running >= MAX_RUNNING:
                raise TooManyError(f"{running} changes are waiting; nothing was done")
            made = Operation(secrets.token_hex(8), kind, key, digest, self._call(act))
            self._by_number[made.number] = made
            if key is not None:
                self._by_key[key] = made
            self._forget_old()
            return made

    def get(self, number: str) -> Operation | None:
        """Return the operation of a number, None if there is none since the start."""
        return self._by_number.get(number)

    def forget_answers(self) -> None:
        """Let keys act again whose operation has ended, because what it changed was replaced."""
        with self._lock:
            running = {key: each for key, each in self._by_key.items() if each.state == RUNNING}
            self._by_key = running

    def _forget_old(self) -> None:
        excess = len(self._by_number) - _MAX_KEPT
        old = [each for each in self._by_number.values() if each.state != RUNNING][: max(excess, 0)]
        for each in old:
            del self._by_number[each.number]
            if each.key is not None and self._by_key.get(each.key) is each:
                del self._by_key[each.key]
