"""Limits on requests, before anything is parsed. Plain ASGI."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_MAX_BODY_BYTES = 8 << 20
_MAX_JSON_DEPTH = 16
_LARGE_BYTES = 64 << 10
_READ_S = 5.0
_MAX_IN_FLIGHT = 16
_MAX_READING_BYTES = 64 << 20
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Limits:
    """Refuse bodies that are large, slow, deep or encoded, and more requests than can be served.

    Who sends a body slowly keeps nobody else out: reading has limits of its own.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._in_flight = self._reading_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        if scope["method"] in ("POST", "PUT", "PATCH"):
            read = await self._body(scope, receive)
            if isinstance(read, tuple):
                await _refuse(send, *read)
                return
            body = read
        counted = scope["path"] != "/events"  # it has a limit of its own
        if counted and self._in_flight >= _MAX_IN_FLIGHT:
            await _refuse(send, 503, "too many requests at once")
            return
        self._in_flight += counted
        try:
            await self._app(scope, _once(body, receive), send)
        finally:
            self._in_flight -= counted

    async def _body(self, scope: Scope, receive: Receive) -> bytes | tuple[int, str]:
        """Read a body; returns a status and a reason where it is refused."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return 415, "send bodies as they are"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            return 413, f"a body may have {_MAX_BODY_BYTES} bytes"
        body, until, more = bytearray(), time.monotonic() + _READ_S, True
        try:
            while more:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
                part = message.get("body", b"")
                body += part
                self._reading_bytes += len(part)
                more = message.get("more_body", False)
                if len(body) > _MAX_BODY_BYTES:
                    return 413, f"a body may have {_MAX_BODY_BYTES} bytes"
                if self._reading_bytes > _MAX_READING_BYTES:
                    return 503, "too many bodies at once"
        except (TimeoutError, asyncio.TimeoutError):
            return 408, "the body came too slowly"
        finally:
            self._reading_bytes -= len(body)
        whole = bytes(body)
        if not whole:
            return whole
        large = len(whole) > _LARGE_BYTES
        sound = await asyncio.to_thread(_sound, whole) if large else _sound(whole)
        return whole if sound else (400, "no JSON that we take")


def _sound(body: bytes) -> bool:
    """Whether a body is JSON, not too deep, without NaN or a key that stands twice."""
    depth = 0
    for byte in body.translate(None, bytes(set(range(256)) - set(b"[]{}"))):
        depth += 1 if byte in b"[{" else -1
        if depth > _MAX_JSON_DEPTH:
            return False
    try:
        json.loads(body, parse_constant=_refused, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return False
    return True


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
