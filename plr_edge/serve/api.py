"""The HTTP interface: teach, predict, undo, health, metrics, events, and the page.

Knows a `Robot` and asks it between two frames. No request names a path or an address.
"""

import asyncio
import base64
import binascii
import hmac
import io
import json
import secrets
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from plr_edge.errors import LabelError, MissingExtraError, PlrEdgeError, StateError, StreamError
from plr_edge.runtime.robot import Robot
from plr_edge.serve.limits import Limits
from plr_edge.serve.metrics import metrics_text
from plr_edge.stream.decode import decode_image

_ANSWER_S = 10.0
_MAX_IMAGES = 32
_MAX_LISTENERS = 16
_MAX_WAITING_EVENTS = 100
_EVERY_FRAME = 3  # of the predictions, as events


def make_app(robot: Robot, token: str) -> Any:
    """Build the ASGI application.

    Args:
        robot: whom to ask.
        token: for teaching and for whatever changes something.

    Raises:
        MissingExtraError: the extra `serve` is not installed.
    """
    try:
        from fastapi import Depends, FastAPI, Header, HTTPException
        from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
        from pydantic import BaseModel, ConfigDict, Field
    except ImportError:
        raise MissingExtraError(
            "serving needs the extra `serve`: pip install 'plr-edge[serve]'"
        ) from None

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

    class Teach(Strict):
        label: str = Field(max_length=200)
        last: int = Field(1, ge=1, le=150, description="How many of the newest frames.")
        stamp_ns: int | None = Field(None, ge=0, lt=2**63, description="One frame, by its stamp.")
        images: list[str] | None = Field(
            None, min_length=1, max_length=_MAX_IMAGES, description="Base64 of image files."
        )
        key: str | None = Field(
            None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A key teaches once."
        )

    class Predict(Strict):
        images: list[str] = Field(min_length=1, max_length=_MAX_IMAGES)

    class Undo(Strict):
        last: int | None = Field(None, ge=1, le=100_000)
        name: str | None = Field(None, max_length=200)

    app = FastAPI(title="plr-edge", docs_url=None, redoc_url=None)
    app.add_middleware(Limits)

    def admin(authorization: str = Header("")) -> None:
        given = authorization.removeprefix("Bearer ").encode()
        if not hmac.compare_digest(given, token.encode()):
            raise HTTPException(401, "give the token: Authorization: Bearer TOKEN")

    async def asked(act: Callable[[], Any]) -> Any:
        try:
            future = asyncio.wrap_future(robot.call(act))
            return await asyncio.wait_for(future, _ANSWER_S)
        except (LabelError, StreamError) as error:
            raise HTTPException(422, str(error)) from None
        except StateError:
            raise HTTPException(507, "the disk refuses; nothing was taught") from None
        except PlrEdgeError:
            raise HTTPException(500, f"failed; see the log, {secrets.token_hex(4)}") from None
        except TimeoutError:
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"}) from None

    async def decoded(images: list[str]) -> list[np.ndarray]:
        try:
            data = [base64.b64decode(image, validate=True) for image in images]
            return [await asyncio.to_thread(decode_image, one, "image") for one in data]
        except (binascii.Error, ValueError):
            raise HTTPException(422, "an image is no base64") from None
        except StreamError as error:
            raise HTTPException(422, str(error)) from None

    @app.post("/teach", dependencies=[Depends(admin)])
    async def teach(body: Teach) -> dict[str, Any]:
        images = await decoded(body.images) if body.images else None
        answer: dict[str, Any] = await asked(
            lambda: robot.teach(
                body.label, last=body.last, stamp_ns=body.stamp_ns, key=body.key, images=images
            )
        )
        return answer

    @app.post("/predict")
    async def predict(body: Predict) -> list[dict[str, Any]]:
        images = await decoded(body.images)
        answers: list[dict[str, Any]] = await asked(lambda: robot.predict(images))
        return answers

    @app.get("/classes")
    async def classes() -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = await asked(robot.classes)
        return answers

    @app.post("/undo", dependencies=[Depends(admin)])
    async def undo(body: Undo) -> dict[str, Any]:
        if body.last is None and body.name is None:
            raise HTTPException(422, "say what to undo: last, name, or both")
        answer: dict[str, Any] = await asked(lambda: robot.undo(last=body.last, name=body.name))
        return answer

    @app.post("/rollback", dependencies=[Depends(admin)])
    async def rollback() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(robot.rollback)
        return answer

    @app.post("/pause", dependencies=[Depends(admin)])
    async def pause() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(lambda: robot.pause(True))
        return answer

    @app.post("/resume", dependencies=[Depends(admin)])
    async def resume() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(lambda: robot.pause(False))
        return answer

    @app.get("/health")
    async def health() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(robot.health)
        return answer

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(metrics_text(await asked(robot.health)))

    @app.get("/events", response_class=StreamingResponse)
    async def events() -> StreamingResponse:
        if len(robot.listeners) >= _MAX_LISTENERS:
            raise HTTPException(503, "too many listeners", {"Retry-After": "5"})
        return StreamingResponse(_events(robot), media_type="text/event-stream")

    @app.get("/frame.jpg", response_class=Response)
    async def frame() -> Response:
        latest = robot.latest
        if latest is None:
            raise HTTPException(404, "no frame yet")
        return Response(await asyncio.to_thread(_jpeg, latest[0].image), media_type="image/jpeg")

    @app.get("/thumbnails/{index}.jpg", response_class=Response)
    async def thumbnail(index: int) -> Response:
        names = robot.live.classes
        image = robot.thumbnails.get(names[index]) if 0 <= index < len(names) else None
        if image is None:
            raise HTTPException(404, "no picture of this class since the start")
        return Response(await asyncio.to_thread(_jpeg, image, 96), media_type="image/jpeg")

    @app.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        return HTMLResponse(files("plr_edge.serve").joinpath("page.html").read_text())

    return app


async def _events(robot: Robot) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue(_MAX_WAITING_EVENTS)

    def put(text: str) -> None:
        if not queue.full():  # a listener that does not read loses events, nobody else does
            queue.put_nowait(text)

    def listen(kind: str, facts: dict[str, Any]) -> None:
        if kind == "prediction" and facts["sequence"] % _EVERY_FRAME:
            return
        loop.call_soon_threadsafe(put, f"event: {kind}\ndata: {json.dumps(facts)}\n\n")

    robot.listeners.append(listen)
    try:
        while not robot.stopping.is_set():
            try:
                yield await asyncio.wait_for(queue.get(), 2.0)
            except TimeoutError:
                yield ": still here\n\n"
    finally:
        robot.listeners.remove(listen)


def _jpeg(image: np.ndarray, side: int = 480) -> bytes:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()
