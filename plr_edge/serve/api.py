"""The HTTP interface: teach, predict, undo, health, metrics, events, and the page.

Knows a `Robot`, which executes requests between two frames. No request names a path or an address.
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
from PIL import Image

from plr_edge.errors import LabelError, MissingExtraError, PlrEdgeError, StateError, StreamError
from plr_edge.robot.robot import Robot
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.serve.events import MAX_LISTENERS, event_stream
from plr_edge.serve.limits import PARSED, Limits, Rate
from plr_edge.serve.metrics import metrics_text
from plr_edge.stream.decode import decode_image

_ANSWER_S = 10.0
_MAX_IMAGES = 32
_AT_ONCE = 4  # images answered between two frames
_PIECE = 1 << 16  # characters of base64: longer pieces block every other thread
_LABELS_PER_S, _BURST = 30.0, 300.0
_OPEN = {"/predict"}
_REFUSALS = {
    400: "request body is not valid JSON",
    401: "the token is missing or wrong",
    404: "not found",
    408: "the request body arrived too slowly",
    413: "the request body is too large",
    415: "compressed request bodies are not supported",
    422: "a field is invalid, or there is no such frame, label or generation",
    429: "too many labels per second",
    503: "too many requests at once",
    507: "the state cannot be written; nothing was taught",
}
_ADMIN = {"/teach", "/undo", "/rollback", "/pause", "/resume", "/save"}


def make_app(robot: Robot, token: str) -> Any:
    """Build the ASGI application.

    Args:
        robot: robot to serve.
        token: token that requests need to teach or to change anything.

    Raises:
        MissingExtraError: the extra `serve` is not installed.
    """
    try:
        from fastapi import Depends, FastAPI, HTTPException, Request
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import (
            HTMLResponse,
            JSONResponse,
            PlainTextResponse,
            Response,
            StreamingResponse,
        )
        from fastapi.routing import APIRoute
        from fastapi.security import HTTPBearer
        from pydantic import BaseModel, ConfigDict, Field
    except ImportError:
        raise MissingExtraError(
            "serving needs the extra `serve`: pip install 'plr-edge[serve]'"
        ) from None

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)

    class Parsed(Request):
        async def json(self) -> Any:
            return self.scope[PARSED]

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Any:
                return await handler(Parsed(request.scope, request.receive))

            return handle

    class Teach(Strict):
        label: str = Field(max_length=200)
        last: int = Field(1, ge=1, le=150, description="Number of newest frames to label.")
        stamp_ns: int | None = Field(
            None, ge=0, lt=2**63, description="Stamp of the frame to label."
        )
        sequence: int | None = Field(
            None, ge=1, lt=2**63,
            description="Number of the frame to label, or of a run that the robot asked about.",
        )  # fmt: skip
        images: list[str] | None = Field(
            None, min_length=1, max_length=_MAX_IMAGES, description="Image files in base64."
        )
        key: str | None = Field(
            None,
            pattern=r"^[A-Za-z0-9_-]{1,64}$",
            description="Idempotency key. A repeated request with the same key teaches once.",
        )

    class Predict(Strict):
        images: list[str] = Field(
            min_length=1, max_length=_MAX_IMAGES, description="Image files in base64."
        )

    class Undo(Strict):
        last: int | None = Field(None, ge=1, le=100_000, description="Only the last of them.")
        name: str | None = Field(None, max_length=200, description="Of this class.")
        source: str | None = Field(None, max_length=1_000, description="Source starts with this.")
        seqs: list[int] | None = Field(None, min_length=1, max_length=1_000)
        since_s: float | None = Field(None, ge=0, allow_inf_nan=False, description="Unix time.")
        until_s: float | None = Field(None, ge=0, allow_inf_nan=False, description="Unix time.")

    class Refusal(BaseModel):
        detail: str

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "model": Refusal} for status, text in _REFUSALS.items()
    }
    app = FastAPI(title="plr-edge", docs_url=None, redoc_url=None, responses=refusals)
    app.router.route_class = Route

    @app.exception_handler(RequestValidationError)
    async def wrong_field(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        return JSONResponse({"detail": f"{where}: {first['msg']}".lstrip(": ")}, 422)

    app.add_middleware(Limits, token=token, open_posts=_OPEN, admin_posts=_ADMIN)
    admin = [
        Depends(HTTPBearer(auto_error=False))
    ]  # for the API description; `Limits` checks the token
    images_thread = ThreadPoolExecutor(1, "images")
    rate = Rate(_LABELS_PER_S, _BURST)

    async def asked(act: Callable[[], Any], *, changes: bool = True) -> Any:
        try:
            future = asyncio.wrap_future(robot.call(act, changes=changes))
            return await asyncio.wait_for(future, _ANSWER_S)
        except (LabelError, StreamError) as error:
            raise HTTPException(422, str(error)) from None
        except StateError:
            raise HTTPException(507, "the state cannot be written; nothing was taught") from None
        except PlrEdgeError:
            raise HTTPException(500, f"failed; see the log, {secrets.token_hex(4)}") from None
        except (TimeoutError, asyncio.TimeoutError, CancelledError):
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"}) from None

    async def looked(images: list[str]) -> list[FrozenOutput]:
        """Decode images and run the frozen part on them, on a thread of their own."""
        stamp_ns, loop = time.time_ns(), asyncio.get_running_loop()
        try:
            seen = []
            for image in images:
                pixels = await loop.run_in_executor(images_thread, _decoded, image)
                seen += await loop.run_in_executor(
                    images_thread, robot.requests.encode, [pixels], "api", stamp_ns
                )
            return seen
        except (binascii.Error, ValueError):
            raise HTTPException(422, "an image is not valid base64") from None
        except StreamError as error:
            raise HTTPException(422, str(error)) from None

    @app.post("/teach", dependencies=admin)
    async def teach(body: Teach) -> dict[str, Any]:
        n = len(body.images) if body.images else body.last
        if not rate.take(n):
            wait = {"Retry-After": str(rate.wait_s(n))}
            raise HTTPException(429, f"more than {_LABELS_PER_S:g} labels per second", wait)
        fields = body.model_dump(exclude={"images"})
        seen = await looked(body.images) if body.images else None
        answer: dict[str, Any] = await asked(lambda: robot.requests.teach(**fields, encoded=seen))
        return answer

    @app.post("/predict")
    async def predict(body: Predict) -> list[dict[str, Any]]:
        seen, answers = await looked(body.images), list[dict[str, Any]]()
        for start in range(0, len(seen), _AT_ONCE):
            act = partial(robot.requests.predict, encoded=seen[start : start + _AT_ONCE])
            answers += await asked(act, changes=False)
        return answers

    @app.post("/undo", dependencies=admin)
    async def undo(body: Undo) -> dict[str, Any]:
        filters = body.model_dump(exclude_none=True)
        if not filters:
            raise HTTPException(422, f"nothing to undo; give one of {', '.join(Undo.model_fields)}")
        answer: dict[str, Any] = await asked(lambda: robot.requests.undo(**filters))
        return answer

    @app.post("/rollback", dependencies=admin)
    async def rollback() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(robot.requests.rollback)
        return answer

    @app.post("/save", dependencies=admin)
    async def save() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(robot.requests.save)
        return answer

    @app.post("/pause", dependencies=admin)
    async def pause() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(lambda: robot.pause(True), changes=False)
        return answer

    @app.post("/resume", dependencies=admin)
    async def resume() -> dict[str, Any]:
        answer: dict[str, Any] = await asked(lambda: robot.pause(False), changes=False)
        return answer

    @app.get("/classes")
    async def classes() -> list[dict[str, Any]]:
        return robot.requests.classes()

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return robot.health()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(metrics_text(robot), media_type="text/plain; version=0.0.4")

    @app.get("/events", response_class=StreamingResponse)
    async def events() -> StreamingResponse:
        if len(robot.listeners) >= MAX_LISTENERS:
            raise HTTPException(503, "too many listeners", {"Retry-After": "5"})
        return StreamingResponse(event_stream(robot), media_type="text/event-stream")

    async def picture(image: np.ndarray | None, side: int, missing: str) -> Response:
        if image is None:
            raise HTTPException(404, missing)
        return Response(await asyncio.to_thread(_jpeg, image, side), media_type="image/jpeg")

    picture_of: dict[str, Any] = {
        "response_class": Response,
        "responses": {200: {"content": {"image/jpeg": {}}}},
    }

    @app.get("/frame.jpg", **picture_of)
    async def frame() -> Response:
        latest = robot.latest
        return await picture(latest[0].image if latest else None, 480, "no frame yet")

    @app.get("/thumbnails/{index}.jpg", **picture_of)
    async def thumbnail(index: int) -> Response:
        names = robot.model.learned.classes
        image = robot.requests.thumbnails.get(names[index]) if 0 <= index < len(names) else None
        return await picture(image, 96, "no image of this class since the start")

    @app.get("/asked/{sequence}.jpg", **picture_of)
    async def stranger(sequence: int) -> Response:
        run = robot.novelty.asked.get(sequence)
        return await picture(
            run[-1].frame.image if run else None, 96, "the robot did not ask about this frame"
        )

    @app.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        return HTMLResponse(files("plr_edge.serve").joinpath("page.html").read_text())

    return app


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
