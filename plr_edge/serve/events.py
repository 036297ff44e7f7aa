"""Server-sent events of a robot. A listener that reads too slowly loses events, nobody else.

Places are limited, for those with a token and those without apart. A place cannot be held for ever
by who says nothing: if all are taken, the listener that has been there longest gives way, and its
client comes again by itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from plr_edge.robot.robot import Robot
from plr_edge.serve.auth import NOBODY, WRONG

MAX_LISTENERS = 16  # with a token, and as many without
EVERY_FRAME = 3  # every third prediction is sent as an event
_MAX_WAITING = 100
_SAFE_S = 10.0  # nobody gives way before
_RETRY_MS = 2000


class _Place:
    """The place of a listener."""

    def __init__(self) -> None:
        self.since_s, self.gone = time.monotonic(), asyncio.Event()
        self.n_lost = 0


class EventStreams:
    """The listeners of one robot. All of it belongs to the loop of the server."""

    def __init__(self, robot: Robot) -> None:
        """Start without listeners."""
        self._robot = robot
        self._places: dict[bool, list[_Place]] = {True: [], False: []}

    def open(self, who: str = NOBODY) -> AsyncIterator[str] | None:
        """Return the events for a new listener, None if no place is free.

        Args:
            who: who listens; see `TokenCheck.who`.
        """
        places = self._places[who not in (NOBODY, WRONG)]
        if len(places) >= MAX_LISTENERS:
            slowest = max(places, key=lambda each: (each.n_lost > 0, -each.since_s))
            if slowest.n_lost == 0 and time.monotonic() - slowest.since_s < _SAFE_S:
                return None
            slowest.gone.set()
            places.remove(slowest)
        return self._kept(_Place(), places)

    async def _kept(self, place: _Place, places: list[_Place]) -> AsyncIterator[str]:
        places.append(place)  # here, as a stream that never began is never closed either
        try:
            yield greeting(self._robot)
            async for text in event_stream(self._robot, place):
                yield text
            if place.gone.is_set():
                yield as_text("full", {"text": "too many listeners; connect again"})
        finally:
            if place in places:
                places.remove(place)


async def event_stream(robot: Robot, place: _Place | None = None) -> AsyncIterator[str]:
    """Yield events until the robot stops, or the listener gives way to another."""
    loop, place = asyncio.get_running_loop(), place or _Place()
    queue: asyncio.Queue[str] = asyncio.Queue(_MAX_WAITING)

    def put(text: str) -> None:
        if queue.full():
            place.n_lost += 1
        else:
            queue.put_nowait(text)

    def listen(event: str, data: dict[str, Any]) -> None:
        if event == "prediction" and data["sequence"] % EVERY_FRAME:
            return
        loop.call_soon_threadsafe(put, as_text(event, data))

    robot.listeners.append(listen)
    try:
        while not (robot.stopping.is_set() or place.gone.is_set()):
            try:
                yield await asyncio.wait_for(queue.get(), 2.0)
            except (TimeoutError, asyncio.TimeoutError):
                yield ": still here\n\n"
    finally:
        robot.listeners.remove(listen)


def greeting(robot: Robot) -> str:
    """Return the first event: how predictions are thinned out, and where the robot is."""
    facts = {
        "predictions_every": EVERY_FRAME,
        "version": robot.model.learned.version,
        "state": robot.state,
        "reason": robot.reason,
    }
    return f"retry: {_RETRY_MS}\n" + as_text("hello", facts)


def as_text(event: str, data: dict[str, Any]) -> str:
    """Return an event as it is sent."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"
