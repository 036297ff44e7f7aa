"""Server-sent events of a robot. A listener that reads too slowly loses events, nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from plr_edge.robot.robot import Robot

MAX_LISTENERS = 16
_MAX_WAITING = 100
_EVERY_FRAME = 3  # every third prediction is sent as an event


async def event_stream(robot: Robot) -> AsyncIterator[str]:
    """Yield events until the robot stops."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue(_MAX_WAITING)

    def put(text: str) -> None:
        if not queue.full():
            queue.put_nowait(text)

    def listen(event: str, data: dict[str, Any]) -> None:
        if event == "prediction" and data["sequence"] % _EVERY_FRAME:
            return
        loop.call_soon_threadsafe(put, f"event: {event}\ndata: {json.dumps(data)}\n\n")

    robot.listeners.append(listen)
    try:
        while not robot.stopping.is_set():
            try:
                yield await asyncio.wait_for(queue.get(), 2.0)
            except (TimeoutError, asyncio.TimeoutError):
                yield ": still here\n\n"
    finally:
        robot.listeners.remove(listen)
