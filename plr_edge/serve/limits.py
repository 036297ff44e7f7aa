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
from plr_edge.tensors import unique_keys

_MAX_BODY_BYTES = 4 << 20
_MAX_OPEN_BODY_BYTES = 1 << 20  # without the token
_MAX_JSON_DEPTH = 16
_READ_S = 5.0
_MAX_IN_FLIGHT = 16
_MAX_READING_BYTES = 64 << 20
_REST = 4.0  # pause after parsing a large body, as a multiple of the time it took
_LARGE_BYTES = 64 << 10
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
PARSED = "plr_edge.parsed"  # key of the parsed body in the scope
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Body:
    """A request body, and its parsed content."""

    data: bytes
    parsed: Any


class RequestLimits:
    """Refuses bodies that are large, slow, deep or compressed, and too many requests at once.

    A request without the token is refused before a byte of its body is read. Reading has limits of
    its own, so that slow senders block nobody else.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, auth: TokenCheck
    ) -> None:
        """Wrap an application.

        Args:
            app: the application.
            auth: decides which requests may send a body, and which a large one.
        """
        self._app, self._auth = app, auth
        self._in_flight = self._reading_bytes = 0
        self._parsing = asyncio.Lock()  # large bodies are parsed one at a time

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
        counted = scope["path"] != "/events"  # events have a limit of their own
        if counted and self._in_flight >= _MAX_IN_FLIGHT:
            await _refuse(send, 503, "too many requests at once")
            return
        self._in_flight += counted
        try:
            await self._app(scope, _once(body, receive), send)
        finally:
            self._in_flight -= counted

    async def _body(self, scope: Scope, receive: Receive) -> Body | tuple[int, str]:
        """Read a body. Returns a status and a reason if it is refused."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        most = _MAX_BODY_BYTES if self._auth.has_token(scope) else _MAX_OPEN_BODY_BYTES
        too_large = (413, f"a request body may have at most {most} bytes")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return 415, "compressed request bodies are not supported"
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
                    return 503, "too many request bodies at once"
        except (TimeoutError, asyncio.TimeoutError):
            return 408, "the request body arrived too slowly"
        finally:
            self._reading_bytes -= len(body)
        try:
            return await self._parsed(bytes(body))
        except ValueError:
            return 400, "request body is not valid JSON"

    async def _parsed(self, body: bytes) -> Body:
        """Parse a body. Large ones are parsed one after another, with pauses for other requests."""
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
    """A token bucket: a rate in the long run, and a burst at once."""

    def __init__(
        self, per_s: float, burst: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with a full burst."""
        self._per_s, self._burst, self._clock_s = per_s, burst, clock_s
        self._left, self._at = burst, clock_s()

    def take(self, n: float) -> bool:
        """Take `n` tokens if there are as many. Returns whether it did."""
        now = self._clock_s()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if n > self._left:
            return False
        self._left -= n
        return True

    def wait_s(self, n: float) -> int:
        """Return the seconds until `n` tokens can be taken."""
        return max(1, math.ceil((n - self._left) / self._per_s))


def parse(body: bytes) -> Any:
    """Parse a body as JSON.

    Raises:
        ValueError: the body is not JSON, is too deep, or contains NaN or a duplicate key.
    """
    depth = 0
    for byte in body.translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > _MAX_JSON_DEPTH:
            raise ValueError("too deep")
    try:
        return json.loads(body, parse_constant=_refused, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("too deep") from None


def _refused(name: str) -> float:
    raise ValueError(name)


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
