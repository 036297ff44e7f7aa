"""The HTTP interface: teach, predict, undo, health, metrics, events, and the page.

Knows a `Robot`, which executes requests between two frames. No request names a path or an address.
Needs the extra `serve`. Handlers have no docstrings, because FastAPI would publish them.
"""

import asyncio
import base64
import binascii
import io
import secrets
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from fastapi.security import HTTPBearer
from PIL import Image

from plr_edge.errors import LabelError, PlrEdgeError, StateError, StreamError
from plr_edge.robot.robot import Robot
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.serve.auth import TOKEN_POSTS, TokenCheck
from plr_edge.serve.events import MAX_LISTENERS, event_stream
from plr_edge.serve.limits import Rate, RequestLimits
from plr_edge.serve.metrics import CONTENT_TYPE, metrics_text
from plr_edge.serve.schemas import REFUSALS, ParsedRoute, Predict, Teach, Undo
from plr_edge.stream.decode import decode_image

_ANSWER_S = 10.0
_AT_ONCE = 4  # images answered between two frames
_PIECE = 1 << 16  # characters of base64: longer pieces block every other thread
_LABELS_PER_S, _BURST = 30.0, 300.0
_PICTURE: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"image/jpeg": {}}}},
}


def make_app(robot: Robot, token: str) -> FastAPI:
    """Build the ASGI application.

    Args:
        robot: robot to serve.
        token: token that requests need to teach or to change anything.
    """
    app = FastAPI(title="plr-edge", docs_url=None, redoc_url=None, responses=REFUSALS)
    app.router.route_class = ParsedRoute
    app.add_exception_handler(RequestValidationError, _wrong_field)  # type: ignore[arg-type]
    app.add_middleware(RequestLimits, auth=TokenCheck(token))
    posted, got = _PostHandlers(robot), _GetHandlers(robot)
    described = [
        Depends(HTTPBearer(auto_error=False))
    ]  # for the API description; `TokenCheck` checks the token
    posts: dict[str, Callable[..., Any]] = {
        "/teach": posted.teach, "/predict": posted.predict, "/undo": posted.undo,
        "/rollback": posted.rollback, "/save": posted.save, "/pause": posted.pause,
        "/resume": posted.resume,
    }  # fmt: skip
    for path, handler in posts.items():
        needs = described if path in TOKEN_POSTS else None
        app.post(path, dependencies=needs)(handler)
    app.get("/classes")(got.classes)
    app.get("/health")(got.health)
    app.get("/health/live")(got.live)
    app.get("/health/ready")(got.ready)
    app.get("/metrics", response_class=PlainTextResponse)(got.metrics)
    app.get("/events", response_class=StreamingResponse)(got.events)
    app.get("/frame.jpg", **_PICTURE)(got.frame)
    app.get("/thumbnails/{index}.jpg", **_PICTURE)(got.thumbnail)
    app.get("/asked/{sequence}.jpg", **_PICTURE)(got.stranger)
    app.get("/", response_class=HTMLResponse)(got.page)
    return app


class _PostHandlers:
    """POST requests, which the robot executes between two frames."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._images_thread = ThreadPoolExecutor(1, "images")
        self._rate = Rate(_LABELS_PER_S, _BURST)

    async def teach(self, body: Teach) -> dict[str, Any]:
        n = len(body.images) if body.images else body.last
        if not self._rate.take(n):
            wait = {"Retry-After": str(self._rate.wait_s(n))}
            raise HTTPException(429, f"more than {_LABELS_PER_S:g} labels per second", wait)
        fields = body.model_dump(exclude={"images"})
        seen = await self._encoded(body.images) if body.images else None
        act = partial(self._robot.requests.teach, **fields, encoded=seen)
        answer: dict[str, Any] = await self._asked(act)
        return answer

    async def predict(self, body: Predict) -> list[dict[str, Any]]:
        seen, answers = await self._encoded(body.images), list[dict[str, Any]]()
        for start in range(0, len(seen), _AT_ONCE):
            act = partial(self._robot.requests.predict, encoded=seen[start : start + _AT_ONCE])
            answers += await self._asked(act, changes=False)
        return answers

    async def undo(self, body: Undo) -> dict[str, Any]:
        filters = body.model_dump(exclude_none=True)
        if not filters:
            raise HTTPException(422, f"nothing to undo; give one of {', '.join(Undo.model_fields)}")
        answer: dict[str, Any] = await self._asked(partial(self._robot.requests.undo, **filters))
        return answer

    async def rollback(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self._asked(self._robot.requests.rollback)
        return answer

    async def save(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self._asked(self._robot.requests.save)
        return answer

    async def pause(self) -> dict[str, Any]:
        act = partial(self._robot.pause, True)
        answer: dict[str, Any] = await self._asked(act, changes=False)
        return answer

    async def resume(self) -> dict[str, Any]:
        act = partial(self._robot.pause, False)
        answer: dict[str, Any] = await self._asked(act, changes=False)
        return answer

    async def _asked(self, act: Callable[[], Any], *, changes: bool = True) -> Any:
        try:
            future = asyncio.wrap_future(self._robot.call(act, changes=changes))
            return await asyncio.wait_for(future, _ANSWER_S)
        except (LabelError, StreamError) as error:
            raise HTTPException(422, str(error)) from None
        except StateError:
            raise HTTPException(507, "the state cannot be written; nothing was taught") from None
        except PlrEdgeError:
            raise HTTPException(500, f"failed; see the log, {secrets.token_hex(4)}") from None
        except (TimeoutError, asyncio.TimeoutError, CancelledError):
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"}) from None

    async def _encoded(self, images: list[str]) -> list[FrozenOutput]:
        """Decode images and run the frozen part on them, on a thread of their own."""
        stamp_ns, loop = time.time_ns(), asyncio.get_running_loop()
        thread, encode = self._images_thread, self._robot.requests.encode
        try:
            seen = list[FrozenOutput]()
            for image in images:
                pixels = await loop.run_in_executor(thread, _decoded, image)
                seen += await loop.run_in_executor(thread, encode, [pixels], "api", stamp_ns)
            return seen
        except (binascii.Error, ValueError):
            raise HTTPException(422, "an image is not valid base64") from None
        except StreamError as error:
            raise HTTPException(422, str(error)) from None


class _GetHandlers:
    """GET requests, which read from the robot at any time."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot

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
        return PlainTextResponse(metrics_text(self._robot), media_type=CONTENT_TYPE)

    async def events(self) -> StreamingResponse:
        if len(self._robot.listeners) >= MAX_LISTENERS:
            raise HTTPException(503, "too many listeners", {"Retry-After": "5"})
        return StreamingResponse(event_stream(self._robot), media_type="text/event-stream")

    async def frame(self) -> Response:
        latest = self._robot.latest
        return await _picture(latest[0].image if latest else None, 480, "no frame yet")

    async def thumbnail(self, index: int) -> Response:
        names = self._robot.model.learned.classes
        image = (
            self._robot.requests.thumbnails.get(names[index]) if 0 <= index < len(names) else None
        )
        return await _picture(image, 96, "no image of this class since the start")

    async def stranger(self, sequence: int) -> Response:
        run = self._robot.novelty.asked.get(sequence)
        image = run[-1].frame.image if run else None
        return await _picture(image, 96, "the robot did not ask about this frame")

    async def page(self) -> HTMLResponse:
        return HTMLResponse(files("plr_edge.serve").joinpath("page.html").read_text())


async def _wrong_field(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    return JSONResponse({"detail": f"{where}: {first['msg']}".lstrip(": ")}, 422)


async def _picture(image: np.ndarray | None, side: int, missing: str) -> Response:
    if image is None:
        raise HTTPException(404, missing)
    return Response(await asyncio.to_thread(_jpeg, image, side), media_type="image/jpeg")


def _decoded(text: str) -> np.ndarray:
    """Decode an image file in base64.

    Raises:
        ValueError: the text is not valid base64.
        StreamError: the file is not an image.
    """
    pieces = (text[i : i + _PIECE] for i in range(0, len(text), _PIECE))
    return decode_image(b"".join(base64.b64decode(p, validate=True) for p in pieces), "image")


def _jpeg(image: np.ndarray, side: int) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()
