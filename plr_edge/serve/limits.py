"""Limits on requests, before anything is parsed. Plain ASGI."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from plr_edge.serve.auth import TokenCheck

_MAX_BODY_BYTES = 4 << 20
_MAX_OPEN_BODY_BYTES = 1 << 20  # of who has no token
_MAX_JSON_DEPTH = 16
_READ_S = 5.0
_MAX_IN_FLIGHT = 16
_MAX_READING_BYTES = 64 << 20
_REST = 4.0  # pause after parsing a large body, in times of what it took
_LARGE_BYTES = 64 << 10
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
PARSED = "plr_edge.parsed"  # in the scope: the body, parsed, so that nobody does it again
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Body:
    """A body, and what was parsed of it."""

    data: bytes
    parsed: Any


class RequestLimits:
    """Refuse bodies that are large, slow, deep or encoded, and more requests than can be served.

    Whoever lacks the token is refused before a byte of the body is read; slow senders keep nobody
    else out, as reading has limits of its own.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, auth: TokenCheck
    ) -> None:
        """Stand before an application.

        Args:
            app: the application.
            auth: decides who may send a body, and who may send a large one.
        """
        self._app, self._auth = app, auth
        self._in_flight = self._reading_bytes = 0
        self._parsing = asyncio.Lock()  # of large bodies: one at a time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        if scope["method"] not in ("GET", "HEAD"):
            read = self._auth.refusal(scope) or await self._body(scope, receive)
            if isinstance(read, tuple):
                await _refuse(send, *read)
                return
            body, scope[PARSED] = read.data, read.parsed
        counted = scope["path"] != "/events"  # it has a limit of its own
        if counted and self._in_flight >= _MAX_IN_FLIGHT:
            await _refuse(send, 503, "too many requests at once")
            return
        self._in_flight += counted
        try:
            await self._app(scope, _once(body, receive), send)
        finally:
            self._in_flight -= counted

    async def _body(self, scope: Scope, receive: Receive) -> Body | tuple[int, str]:
        """Read a body; returns a status and a reason where it is refused."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        most = _MAX_BODY_BYTES if self._auth.has_token(scope) else _MAX_OPEN_BODY_BYTES
        too_large = (413, f"a body may have {most} bytes")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return 415, "send bodies as they are"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            return too_large
        body, until, more = bytearray(), time.monotonic() + _READ_S, True
        try:
            while more:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
                part = message.get("body", b"")
                body += part
                self._reading_bytes += len(part)
                more = message.get("more_body", False)
                if len(body) > most:
                    return too_large
                if self._reading_bytes > _MAX_READING_BYTES:
                    return 503, "too many bodies at once"
        except (TimeoutError, asyncio.TimeoutError):
            return 408, "the body came too slowly"
        finally:
            self._reading_bytes -= len(body)
        try:
            return await self._parsed(bytes(body))
        except ValueError:
            return 400, "no JSON that we take"

    async def _parsed(self, body: bytes) -> Body:
        """Parse a body; large ones one after another, with rests in which others are served."""
        if not body:
            return Body(body, None)
        if len(body) < _LARGE_BYTES:
            return Body(body, parse(body))
        async with self._parsing:
            start = time.perf_counter()
            parsed = await asyncio.to_thread(parse, body)
            await asyncio.sleep(_REST * (time.perf_counter() - start))
            return Body(body, parsed)


class Rate:
    """So many a second in the long run, and a burst at once."""

    def __init__(
        self, per_s: float, burst: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with a whole burst."""
        self._per_s, self._burst, self._clock_s = per_s, burst, clock_s
        self._left, self._at = burst, clock_s()

    def take(self, n: float) -> bool:
        """Take `n`, if there are so many."""
        now = self._clock_s()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if n > self._left:
            return False
        self._left -= n
        return True

    def wait_s(self, n: float) -> int:
        """Return after how many seconds `n` can be taken."""
        return max(1, math.ceil((n - self._left) / self._per_s))


def parse(body: bytes) -> Any:
    """Return what a body holds.

    Raises:
        ValueError: it is no JSON, too deep, or holds NaN or a key that stands twice.
    """
    depth = 0
    for byte in body.translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > _MAX_JSON_DEPTH:
            raise ValueError("too deep")
    try:
        return json.loads(body, parse_constant=_refused, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("too deep") from None


def _refused(name: str) -> float:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _once(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def give() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


async def _refuse(send: Send, status: int, reason: str) -> None:
    payload = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
