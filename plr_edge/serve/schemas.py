"""What requests hold and what refusals say, as FastAPI describes them in /openapi.json."""

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from plr_edge.serve.limits import PARSED

_MAX_IMAGES = 32
_REASONS = {
    400: "no JSON that we take",
    401: "the token is missing or wrong",
    404: "there is no such thing",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is encoded",
    422: "a field is wrong, or there is no such frame, label or generation",
    429: "too many labels a second",
    503: "too many requests at once",
    507: "the disk refuses; nothing was taught",
}


class Strict(BaseModel):
    """A body whose fields are of the type that stands there, and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Teach(Strict):
    label: str = Field(max_length=200)
    last: int = Field(1, ge=1, le=150, description="How many of the newest frames.")
    stamp_ns: int | None = Field(None, ge=0, lt=2**63, description="One frame, by its stamp.")
    sequence: int | None = Field(
        None, ge=1, lt=2**63,
        description="One frame, by its number; or all of a run that was asked about.",
    )  # fmt: skip
    images: list[str] | None = Field(
        None, min_length=1, max_length=_MAX_IMAGES, description="Base64 of image files."
    )
    key: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A key teaches once."
    )


class Predict(Strict):
    images: list[str] = Field(
        min_length=1, max_length=_MAX_IMAGES, description="Base64 of image files."
    )


class Undo(Strict):
    last: int | None = Field(None, ge=1, le=100_000)
    name: str | None = Field(None, max_length=200)


class Refusal(BaseModel):
    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Refusal} for status, text in _REASONS.items()
}


class _ParsedRequest(Request):
    async def json(self) -> Any:
        return self.scope[PARSED]


class ParsedRoute(APIRoute):
    """Hands a handler the body that `RequestLimits` has parsed, so that nobody does it again."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler of FastAPI, given the parsed body."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Any:
            return await handler(_ParsedRequest(request.scope, request.receive))

        return handle
