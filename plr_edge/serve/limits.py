"""Limits on requests, before anything is parsed. Plain ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_MAX_BODY_BYTES = 8 << 20
_MAX_JSON_DEPTH = 16
_READ_S = 5.0
_MAX_IN_FLIGHT = 16
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Limits:
    """Refuse bodies that are large, slow, deep or encoded, and more requests than can be served."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._in_flight >= _MAX_IN_FLIGHT and scope["path"] != "/events":
            await _refuse(send, 503, "too many requests at once")
            return
        counted = scope["path"] != "/events"
        self._in_flight += counted
        try:
            body = b""
            if scope["method"] in ("POST", "PUT", "PATCH"):
                body_or_reason = await self._body(scope, receive)
                if isinstance(body_or_reason, tuple):
                    await _refuse(send, *body_or_reason)
                    return
                body = body_or_reason
            await self._app(scope, _once(body, receive), send)
        finally:
            self._in_flight -= counted

    async def _body(self, scope: Scope, receive: Receive) -> bytes | tuple[int, str]:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"content-encoding", b"identity") != b"identity":
            return 415, "send bodies as they are"
        if int(headers.get(b"content-length", b"0") or 0) > _MAX_BODY_BYTES:
            return 413, f"a body may have {_MAX_BODY_BYTES} bytes"
        body = bytearray()
        try:
            async with asyncio.timeout(_READ_S) if hasattr(asyncio, "timeout") else _NoLimit():
                more = True
                while more:
                    message = await asyncio.wait_for(receive(), _READ_S)
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > _MAX_BODY_BYTES:
                        return 413, f"a body may have {_MAX_BODY_BYTES} bytes"
        except (TimeoutError, asyncio.TimeoutError):
            return 408, "the body came too slowly"
        return bytes(body) if not body or _sound(bytes(body)) else (400, "no JSON that we take")


class _NoLimit:
    """Stands in for `asyncio.timeout` on Python 3.10, where each part has its own limit."""

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


def _sound(body: bytes) -> bool:
    """Whether a body is JSON, not too deep, without NaN or a key that stands twice."""
    depth = deepest = 0
    for byte in body.translate(None, bytes(set(range(256)) - set(b"[]{}"))):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > _MAX_JSON_DEPTH:
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
