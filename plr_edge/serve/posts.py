"""POST requests: what changes a robot, and what asks it about images. Needs the extra `serve`.

Handlers have no docstrings, because FastAPI would publish them.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from plr_edge.errors import ConfigError, LabelError, PlrEdgeError, StateError, StreamError
from plr_edge.robot.correcting import without_digest
from plr_edge.robot.operations import FAILED, RUNNING, KeyReusedError, Operation, TooManyError
from plr_edge.robot.robot import Robot
from plr_edge.runtime.consolidation import parse_budget
from plr_edge.serve.auth import NOBODY, WRONG
from plr_edge.serve.images import Images
from plr_edge.serve.limits import WHO, Rate
from plr_edge.serve.schemas import (
    Change,
    Consolidate,
    Forget,
    Predict,
    Review,
    Rollback,
    Teach,
    Undo,
)
from plr_edge.store import LEARNED, QUARANTINED

_ANSWER_S = 5.0  # a change that takes longer is answered with its operation
_PREDICT_S = 10.0
_AT_ONCE = 4  # images answered between two frames
_LABELS_PER_S, _BURST = 30.0, 300.0
_PAUSE_S = 0.25  # before a request beyond the rate is refused
Answer = dict[str, Any]


class PostHandlers:
    """POST requests, which the robot executes between two frames."""

    def __init__(self, robot: Robot, paces: Mapping[str, Rate]) -> None:
        """Serve a robot.

        Args:
            robot: the robot.
            paces: megapixels a second that each kind of client may have predicted.
        """
        self._robot, self._paces = robot, paces
        # images of strangers never delay those of whoever has a token, nor any of them teaching
        self._taught = Images(robot, "taught", yields=False)
        self._predicted_by = {True: Images(robot, "predicted"), False: Images(robot, "open")}
        self._rate = Rate(_LABELS_PER_S, _BURST)

    async def teach(self, body: Teach) -> Any:
        n = len(body.images) if body.images else body.last
        fields = body.model_dump(exclude={"images", "key"})
        if (repeated := await self._repeated("teach", body)) is not None:
            return repeated
        if not self._rate.take(n):
            await asyncio.sleep(_PAUSE_S)
            wait = {"Retry-After": str(self._rate.wait_s(n))}
            raise HTTPException(429, f"more than {_LABELS_PER_S:g} labels per second", wait)
        with _Refused():
            seen = await self._taught.encoded(body.images) if body.images else None
        return await self._changed(
            "teach", body, partial(self._robot.requests.teach, **fields, encoded=seen)
        )

    async def predict(self, body: Predict, request: Request) -> list[Answer]:
        who = request.scope.get(WHO, NOBODY)
        kind = NOBODY if who == WRONG else who
        images = self._predicted_by[kind != NOBODY]
        try:
            with _Refused():
                return await asyncio.wait_for(
                    self._predicted(body, images, self._paces[kind]), _PREDICT_S
                )
        except (TimeoutError, asyncio.TimeoutError, CancelledError):
            raise HTTPException(503, "busy; try again", {"Retry-After": "1"}) from None

    async def _predicted(self, body: Predict, images: Images, pace: Rate) -> list[Answer]:
        stamp_ns, answers = time.time_ns(), list[Answer]()
        for start in range(0, len(body.images), _AT_ONCE):
            some = body.images[start : start + _AT_ONCE]
            seen = await images.encoded(some, pace, stamp_ns + start)
            act = partial(self._robot.requests.predict, encoded=seen)
            answers += await asyncio.wrap_future(self._robot.call(act, changes=False))
        return answers

    async def undo(self, body: Undo) -> Any:
        filters = body.model_dump(exclude_none=True, exclude={"key"})
        if not filters:
            names = [name for name in Undo.model_fields if name != "key"]
            raise HTTPException(422, f"nothing to undo; give one of {', '.join(names)}")
        return await self._changed("undo", body, partial(self._robot.requests.undo, **filters))

    async def rollback(self, body: Rollback | None = None) -> Any:
        exported = body is not None and body.exported
        act = partial(self._robot.requests.rollback, exported=exported)
        return await self._changed("rollback", body, act)

    async def forget(self, body: Forget) -> Any:
        act = partial(self._robot.requests.forget, body.name)
        return await self._changed("forget", body, act)

    async def review(self, body: Review) -> Any:
        if not body.confirm and not body.drop:
            raise HTTPException(422, "give confirm or drop: numbers of labels, or all")
        act = partial(self._robot.requests.review, confirm=body.confirm, drop=body.drop)
        return await self._changed("quarantine", body, act)

    async def save(self, body: Change | None = None) -> Any:
        return await self._done("save", body, self._robot.requests.save)

    async def pause(self, body: Change | None = None) -> Any:
        return await self._done("pause", body, partial(self._robot.pause, True))

    async def resume(self, body: Change | None = None) -> Any:
        return await self._done("resume", body, partial(self._robot.pause, False))

    async def consolidate(self, body: Consolidate) -> Any:
        with _Refused():
            budget = parse_budget(body.budget)
        act = partial(self._robot.governor_loop.consolidation.start, budget)
        return await self._done("consolidate", body, act)

    async def stop_consolidating(self, body: Change | None = None) -> Any:
        act = self._robot.governor_loop.consolidation.stop
        return await self._done("stop consolidating", body, act)

    async def _changed(
        self, kind: str, body: BaseModel | None, act: Callable[..., Any]
    ) -> Answer | JSONResponse:
        """Answer a request whose key, if it has one, is on disk with what it changed."""
        if (repeated := await self._repeated(kind, body)) is not None:
            return repeated
        key, digest = _key(body), _digest(kind, body)
        return await self._done(kind, body, partial(act, key=key, digest=digest))

    async def _done(
        self, kind: str, body: BaseModel | None, act: Callable[[], Any]
    ) -> Answer | JSONResponse:
        """Do something between two frames. Answer with what it returned, or its operation."""
        with _Refused():
            operation = self._robot.operations.begin(kind, act, _key(body), _digest(kind, body))
            future = asyncio.wrap_future(operation.outcome)
            try:
                done: Answer = await asyncio.wait_for(asyncio.shield(future), _ANSWER_S)
                return done
            except (TimeoutError, asyncio.TimeoutError):
                future.add_done_callback(lambda f: f.cancelled() or f.exception())
        where = {"Location": f"/operations/{operation.number}"}
        return JSONResponse(facts_of(operation), 202, where)

    async def _repeated(self, kind: str, body: BaseModel | None) -> Answer | None:
        """Return the answer to a request that was made before, and what became of its labels."""
        key = _key(body)
        stored = None if key is None else self._robot.requests.answers.get(key)
        if stored is None or key is None:
            return None
        with _Refused():
            answer = without_digest(stored, _digest(kind, body), key)
            if "first" not in answer:
                return {**answer, "repeated": True}
            n_undone = await asyncio.to_thread(self._n_gone, answer["first"], answer["taught"])
            return {**answer, "repeated": True, "undone": n_undone}

    def _n_gone(self, first: int, n: int) -> int:
        here = 0
        for label in self._robot.model.store.labels.read(first - 1):
            if label.seq >= first + n:
                break
            here += label.status in (LEARNED, QUARANTINED)
        return n - here


def facts_of(operation: Operation) -> Answer:
    """Return an operation as JSON: its state, and its answer or why it failed."""
    facts: Answer = {
        "operation": operation.number,
        "kind": operation.kind,
        "state": operation.state,
        "answer": None,
        "detail": None,
    }
    if facts["state"] == RUNNING:
        facts["detail"] = (
            f"it takes longer; GET /operations/{operation.number} tells when it is done"
        )
    elif facts["state"] == FAILED:
        facts["detail"] = _detail_of(operation)
    else:
        facts["answer"] = operation.outcome.result()
    return facts


def _detail_of(operation: Operation) -> str:
    if operation.outcome.cancelled():
        return "the robot ended before it was begun; nothing was done"
    error = operation.outcome.exception()
    assert error is not None
    return _refusal(error)[1] if isinstance(error, PlrEdgeError) else "failed; see the log"


class _Refused:
    """Turns what a robot raises into an answer of HTTP."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the answer, if there is an error that a request can cause."""
        if isinstance(error, PlrEdgeError):
            status, detail = _refusal(error)
            headers = {"Retry-After": "1"} if status == 503 else None
            raise HTTPException(status, detail, headers) from None
        if isinstance(error, (CancelledError, asyncio.CancelledError)):
            raise HTTPException(503, "the robot ends; nothing was done") from None


def _refusal(error: PlrEdgeError) -> tuple[int, str]:
    if isinstance(error, KeyReusedError):
        return 409, str(error)
    if isinstance(error, TooManyError):
        return 503, str(error)
    if isinstance(error, (LabelError, StreamError, ConfigError)):
        return 422, str(error)
    if isinstance(error, StateError):
        return 507, f"nothing was changed: {error}"
    return 500, f"failed; see the log, {secrets.token_hex(4)}"


def _key(body: BaseModel | None) -> str | None:
    key: str | None = getattr(body, "key", None)
    return key


def _digest(kind: str, body: BaseModel | None) -> str:
    """Identify a request apart from its key."""
    fields = {} if body is None else body.model_dump(exclude={"key"}, exclude_none=True)
    text = json.dumps([kind, fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
