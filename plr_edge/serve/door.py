"""What every request passes first: its Host and Origin, and what every answer carries. Plain ASGI.

Counts requests by route and status. Knows no token and no body.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from plr_edge.serve.address import host_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
# no Strict-Transport-Security: with a self-signed certificate it would lock a browser out
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_CACHE = (b"cache-control", b"no-store")
_OTHER = "other"


class Door:
    """Refuses requests to other names and from pages of others, and hardens every answer.

    Attributes:
        requests: number of requests by route and status.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        knows_host: Callable[[str], bool] = lambda _: True,
        routes: Iterable[str] = (),
        requests: Counter[tuple[str, int]] | None = None,
    ) -> None:
        """Wrap an application.

        Args:
            app: the application.
            knows_host: whether a `Host` header names this robot.
            routes: paths to count by name. A path ends with `*` where a number follows.
            requests: where to count.
        """
        self._app, self._knows_host = app, knows_host
        self._exact = {route for route in routes if not route.endswith("*")}
        self._prefixes = [route[:-1] for route in routes if route.endswith("*")]
        self.requests = Counter() if requests is None else requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = self._route(scope["path"])

        async def harden(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.requests[route, message["status"]] += 1
                headers = list(message.get("headers", []))
                there = {name.lower() for name, _ in headers}
                fixed = (*_HEADERS, _POLICY, _CACHE)
                headers += [pair for pair in fixed if pair[0] not in there]
                message = {**message, "headers": headers}
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, harden)
        else:
            await refuse(harden, *refused)

    def _route(self, path: str) -> str:
        if path in self._exact:
            return path
        return next((f"{p}*" for p in self._prefixes if path.startswith(p)), _OTHER)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        hosts = _all(scope, b"host")
        if len(hosts) != 1 or not self._knows_host(hosts[0]):
            named = hosts[0][:80] if len(hosts) == 1 else "missing, or given twice"
            return 421, (
                f"the Host of this request is {named!r}, which does not name this robot; "
                "--allow-host of `plr-edge run` adds one"
            )
        origins = _all(scope, b"origin")
        if any(_without_scheme(origin) != hosts[0].lower() for origin in origins):
            return 403, "this request comes from a page of another origin"
        return None


async def refuse(send: Send, status: int, reason: str, wait_s: int = 1) -> None:
    """Answer with a status and a reason, and close the connection.

    Args:
        send: sends a message of ASGI.
        status: HTTP status.
        reason: for people.
        wait_s: seconds after which a request that was too much may come again.
    """
    payload = json.dumps({"detail": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(payload)).encode()),
        (b"connection", b"close"),
    ]
    if status in (429, 503):
        headers.append((b"retry-after", str(wait_s).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _without_scheme(origin: str) -> str | None:
    """Return `HOST[:PORT]` of an origin, None for `null` and what is malformed."""
    scheme, found, rest = origin.lower().partition("://")
    well = found and scheme in ("http", "https") and host_of(rest) is not None
    return rest if well else None
