"""Calls: what is done between two frames for other threads, and futures of the result."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Call:
    """Something to do between two frames, and its outcome.

    Attributes:
        changes: whether it changes what was taught. Such calls wait for one another.
        outcome: the result.
    """

    def __init__(self, act: Callable[[], Any], changes: bool) -> None:
        """Do nothing yet.

        Args:
            act: what to do. If it returns a future, the result of that one is the outcome.
            changes: whether it changes what was taught.
        """
        self.changes, self.outcome = changes, Future[Any]()
        self._act = act

    def run(self) -> None:
        """Do it. The outcome is there now, or when the future that it returned is done."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            result = self._act()
        except Exception as error:
            self.outcome.set_exception(error)
            return
        if isinstance(result, Future):
            result.add_done_callback(self._pass_on)
        else:
            self.outcome.set_result(result)

    def _pass_on(self, done: Future[Any]) -> None:
        if (error := done.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(done.result())


def done(value: T) -> Future[T]:
    """Return a future that is done."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def then(
    future: Future[Any],
    make: Callable[[Any], T],
    on_error: Callable[[Exception], None] = lambda _: None,
) -> Future[T]:
    """Return the future of what is made of a result.

    Args:
        future: future of the result.
        make: makes something of it.
        on_error: called with the error if there is one. The returned future raises it too.
    """
    outcome: Future[T] = Future()

    def take(finished: Future[Any]) -> None:
        try:
            outcome.set_result(make(finished.result()))
        except Exception as error:
            on_error(error)
            outcome.set_exception(error)

    future.add_done_callback(take)
    return outcome
