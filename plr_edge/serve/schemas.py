"""Fields of requests and reasons of refusals, as FastAPI describes them in /openapi.json."""

from collections.abc import Callable
from typing import Any, Literal

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from plr_edge.serve.limits import PARSED

_MAX_IMAGES = 32
_REASONS = {
    400: "request body is not valid JSON",
    401: "the token is missing or wrong",
    403: "the viewer's token changes nothing, or a page of another origin asks",
    404: "not found",
    405: "only GET and POST are supported",
    408: "the request body arrived too slowly",
    409: "the key came with another request before",
    413: "the request body is too large",
    415: "compressed request bodies are not supported",
    422: "a field is invalid, or there is no such frame, label or generation",
    421: "the Host does not name this robot",
    429: "too many labels or megapixels per second",
    500: "failed; the log has the reason",
    503: "too many requests at once; nothing was done",
    507: "the state cannot be written; nothing was changed",
}


KEY = Field(
    None,
    pattern=r"^[A-Za-z0-9_-]{1,64}$",
    description="Idempotency key. A repeated request with the same key acts once.",
)


class Strict(BaseModel):
    """A body with exactly the declared fields, of exactly the declared types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Teach(Strict):
    label: str = Field(max_length=200)
    last: int = Field(1, ge=1, le=150, description="Number of newest frames to label.")
    stamp_ns: int | None = Field(None, ge=0, lt=2**63, description="Stamp of the frame to label.")
    sequence: int | None = Field(
        None, ge=1, lt=2**63,
        description="Number of the frame to label, or of a run that the robot asked about.",
    )  # fmt: skip
    images: list[str] | None = Field(
        None, min_length=1, max_length=_MAX_IMAGES, description="Image files in base64."
    )
    key: str | None = KEY
    new_class: bool = Field(
        False, description="A label that looks like a known class is a class of its own."
    )


class Predict(Strict):
    images: list[str] = Field(
        min_length=1, max_length=_MAX_IMAGES, description="Image files in base64."
    )


class Undo(Strict):
    last: int | None = Field(None, ge=1, le=100_000, description="Only the last of them.")
    after: int | None = Field(
        None, ge=0, lt=2**63, description="Taught after the label of this number."
    )
    name: str | None = Field(None, max_length=200, description="Of this class.")
    source: str | None = Field(None, max_length=1_000, description="Source starts with this.")
    seqs: list[int] | None = Field(None, min_length=1, max_length=1_000)
    since_s: float | None = Field(None, ge=0, allow_inf_nan=False, description="Unix time.")
    until_s: float | None = Field(None, ge=0, allow_inf_nan=False, description="Unix time.")
    key: str | None = KEY


class Change(Strict):
    key: str | None = KEY


class Rollback(Change):
    exported: bool = Field(False, description="Go back to the bundle as exported.")


class Forget(Strict):
    name: str = Field(max_length=200, description="The class to delete.")
    key: str | None = KEY


class Review(Strict):
    confirm: list[int] | Literal["all"] = Field([], description="Quarantined labels to learn.")
    drop: list[int] | Literal["all"] = Field([], description="Quarantined labels to undo.")
    key: str | None = KEY


class OperationFacts(BaseModel):
    operation: str
    kind: str
    state: Literal["running", "done", "failed"]
    answer: dict[str, Any] | None
    detail: str | None


class Consolidate(Strict):
    budget: str = Field(
        "5min",
        max_length=40,
        description="Time such as 90s, 5min or 1h, or multiply-adds such as 500GMAC or 2TMAC.",
    )
    key: str | None = KEY


class Refusal(BaseModel):
    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Refusal} for status, text in _REASONS.items()
}


LATER: dict[int | str, dict[str, Any]] = {
    202: {"description": "it takes longer; ask for its operation", "model": OperationFacts}
}


class _ParsedRequest(Request):
    async def json(self) -> Any:
        return self.scope[PARSED]


class ParsedRoute(APIRoute):
    """Passes the body that `RequestLimits` has parsed to the handler."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler of FastAPI, given the parsed body."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Any:
            return await handler(_ParsedRequest(request.scope, request.receive))

        return handle
