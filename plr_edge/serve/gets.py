"""GET requests, which read from a robot at any time and change nothing. Needs the extra `serve`.

Handlers have no docstrings, because FastAPI would publish them.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from fastapi import HTTPException, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from plr_edge.errors import StateError
from plr_edge.robot.robot import Robot
from plr_edge.runtime.state_facts import state_facts
from plr_edge.serve.auth import NOBODY
from plr_edge.serve.events import EventStreams
from plr_edge.serve.images import jpeg
from plr_edge.serve.limits import WHO
from plr_edge.serve.metrics import CONTENT_TYPE, HttpCounts, metrics_text
from plr_edge.serve.page import page_and_policy
from plr_edge.serve.posts import facts_of
from plr_edge.store.listing import entries

_MAX_ENTRIES = 10_000
Last = Annotated[int, Query(ge=1, le=_MAX_ENTRIES)]


class GetHandlers:
    """GET requests."""

    def __init__(self, robot: Robot, counts: HttpCounts) -> None:
        """Serve a robot.

        Args:
            robot: the robot.
            counts: requests and rejected tokens, for the metrics.
        """
        self._robot, self._counts = robot, counts
        self._streams = EventStreams(robot)
        self._reading = asyncio.Semaphore(1)  # of the whole state, which takes a while

    async def classes(self) -> list[dict[str, Any]]:
        return self._robot.requests.classes()

    async def health(self, response: Response) -> dict[str, Any]:
        response.status_code = 200 if self._robot.serves else 503
        return self._robot.health()

    async def live(self, response: Response) -> dict[str, Any]:
        response.status_code = 200 if self._robot.is_alive else 503
        return {"alive": self._robot.is_alive}

    async def ready(self, response: Response) -> dict[str, Any]:
        robot = self._robot
        response.status_code = 200 if robot.serves else 503
        return {"ready": robot.serves, "state": robot.state, "reason": robot.reason}

    async def metrics(self) -> PlainTextResponse:
        text = metrics_text(self._robot, self._counts)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    async def events(self, request: Request) -> StreamingResponse:
        stream = self._streams.open(request.scope.get(WHO, NOBODY))
        if stream is None:
            raise HTTPException(503, "too many listeners", {"Retry-After": "5"})
        return StreamingResponse(stream, media_type="text/event-stream")

    async def frame(self) -> Response:
        latest = self._robot.latest
        return await _picture(latest[0].image if latest else None, 480, "no frame yet")

    async def thumbnail(self, index: int) -> Response:
        names = self._robot.model.learned.classes
        known = 0 <= index < len(names)
        image = self._robot.requests.thumbnails.get(names[index]) if known else None
        return await _picture(image, 96, "no image of this class since the start")

    async def stranger(self, sequence: int) -> Response:
        run = self._robot.novelty.asked.get(sequence)
        image = run[-1].frame.image if run else None
        return await _picture(image, 96, "the robot did not ask about this frame")

    async def operation(self, number: str) -> Any:
        found = self._robot.operations.get(number)
        if found is None:
            raise HTTPException(
                404, "no such operation since the start; a request with a key may be sent again"
            )
        return facts_of(found)

    async def log(
        self, last: Last = 50, quarantined: bool = False, events: bool = False
    ) -> list[dict[str, Any]]:
        store = self._robot.model.store
        found: list[dict[str, Any]] = await self._read(
            lambda: entries(store, last, quarantined=quarantined, only_events=events)
        )
        return found

    async def quarantine(self, last: Last = _MAX_ENTRIES) -> list[dict[str, Any]]:
        return await self.log(last, quarantined=True)

    async def inspect(self) -> dict[str, Any]:
        facts: dict[str, Any] = await self._read(lambda: state_facts(self._robot.model.store))
        return facts

    async def repair(self) -> dict[str, Any]:
        damage = await self._read(self._robot.model.store.damage)
        return {"whole": not damage, "damage": damage}

    async def page(self) -> HTMLResponse:
        text, policy = page_and_policy()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    async def _read(self, read: Any) -> Any:
        async with self._reading:
            try:
                return await asyncio.to_thread(read)
            except StateError as error:
                raise HTTPException(507, str(error)) from None


# of its own: whoever looks at pictures takes no thread of who teaches
_PICTURES = ThreadPoolExecutor(1, "pictures")


async def _picture(image: np.ndarray | None, side: int, missing: str) -> Response:
    if image is None:
        raise HTTPException(404, missing)
    loop = asyncio.get_running_loop()
    data = await loop.run_in_executor(_PICTURES, jpeg, image, side)
    return Response(data, media_type="image/jpeg")
