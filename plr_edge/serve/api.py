"""The HTTP interface: which path is answered by what, and what every request passes before.

Knows a `Robot`, which executes requests between two frames. No request names a path or an address.
Needs the extra `serve`.
"""

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from fastapi.security import HTTPBearer

from plr_edge.robot.robot import Robot
from plr_edge.serve.auth import TOKEN_POSTS, TokenCheck
from plr_edge.serve.door import Door
from plr_edge.serve.gets import GetHandlers
from plr_edge.serve.limits import RequestLimits, predict_paces
from plr_edge.serve.metrics import HttpCounts
from plr_edge.serve.posts import PostHandlers
from plr_edge.serve.schemas import LATER, REFUSALS, OperationFacts, ParsedRoute

_PICTURE: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": {"image/jpeg": {}}}},
}
ROUTES = (
    "/teach", "/predict", "/undo", "/rollback", "/save", "/pause", "/resume", "/forget",
    "/quarantine", "/consolidate", "/consolidate/stop", "/classes", "/health", "/health/live",
    "/health/ready", "/metrics", "/events",
    "/frame.jpg", "/thumbnails/*", "/asked/*", "/operations/*", "/log", "/inspect", "/repair", "/",
    "/openapi.json",
)  # fmt: skip


def make_app(
    robot: Robot, token: str | TokenCheck, knows_host: Callable[[str], bool] = lambda _: True
) -> FastAPI:
    """Build the ASGI application.

    Args:
        robot: robot to serve.
        token: token that requests need to teach or to change anything, or the check of it.
        knows_host: whether a `Host` header names this robot.
    """
    check = TokenCheck(token) if isinstance(token, str) else token
    counts, paces = HttpCounts(check.rejected), predict_paces()
    app = FastAPI(title="plr-edge", docs_url=None, redoc_url=None, responses=REFUSALS)
    app.router.route_class = ParsedRoute
    app.add_exception_handler(RequestValidationError, _wrong_field)  # type: ignore[arg-type]
    app.add_middleware(RequestLimits, auth=check, paces=paces)
    app.add_middleware(Door, knows_host=knows_host, routes=ROUTES, requests=counts.requests)
    _add_posts(app, PostHandlers(robot, paces))
    _add_gets(app, GetHandlers(robot, counts))
    return app


def _add_posts(app: FastAPI, posted: PostHandlers) -> None:
    described = [
        Depends(HTTPBearer(auto_error=False))
    ]  # for the API description; `TokenCheck` checks the token
    posts: dict[str, Callable[..., Any]] = {
        "/teach": posted.teach, "/undo": posted.undo, "/rollback": posted.rollback,
        "/forget": posted.forget, "/quarantine": posted.review, "/save": posted.save,
        "/pause": posted.pause, "/resume": posted.resume, "/consolidate": posted.consolidate,
        "/consolidate/stop": posted.stop_consolidating,
    }  # fmt: skip
    for path, handler in posts.items():
        needs = described if path in TOKEN_POSTS else None
        app.post(path, dependencies=needs, response_model=dict[str, Any], responses=LATER)(handler)
    app.post("/predict")(posted.predict)


def _add_gets(app: FastAPI, got: GetHandlers) -> None:
    app.get("/classes")(got.classes)
    app.get("/health")(got.health)
    app.get("/health/live")(got.live)
    app.get("/health/ready")(got.ready)
    app.get("/metrics", response_class=PlainTextResponse)(got.metrics)
    app.get("/events", response_class=StreamingResponse)(got.events)
    app.get("/operations/{number}", response_model=OperationFacts)(got.operation)
    app.get("/log")(got.log)
    app.get("/quarantine")(got.quarantine)
    app.get("/inspect")(got.inspect)
    app.get("/repair")(got.repair)
    app.get("/frame.jpg", **_PICTURE)(got.frame)
    app.get("/thumbnails/{index}.jpg", **_PICTURE)(got.thumbnail)
    app.get("/asked/{sequence}.jpg", **_PICTURE)(got.stranger)
    app.get("/", response_class=HTMLResponse)(got.page)


async def _wrong_field(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    return JSONResponse({"detail": f"{where}: {first['msg']}".lstrip(": ")}, 422)
