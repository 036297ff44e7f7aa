"""Limits on requests, before anything is parsed. Plain ASGI."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from plr_edge.serve.auth import NOBODY, WRONG, TokenCheck
from plr_edge.serve.door import Receive, Scope, Send, refuse
from plr_edge.serve.page import page_and_policy
from plr_edge.serve.tokens import TEACHER, VIEWER
from plr_edge.tensors import unique_keys

_MAX_BODY_BYTES = 4 << 20
_MAX_OPEN_BODY_BYTES = 1 << 20  # without the teacher's token
_MAX_JSON_DEPTH = 16
_READ_S = 5.0
_MAX_READING_BYTES, _MAX_OPEN_READING_BYTES = 64 << 20, 6 << 20
_REST = 4.0  # pause after parsing a large body, as a multiple of the time it took
_LARGE_BYTES = 64 << 10
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
PARSED = "plr_edge.parsed"  # key of the parsed body in the scope
WHO = "plr_edge.who"  # key of who sends the request
PREDICT, _EVENTS = "/predict", "/events"  # events have a limit of their own
_WATCHED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
# requests at once. Watching, predicting, and whoever has a token do not take places of others
_PLACES = {"watch": 16, "predict": 3, TEACHER: 16, VIEWER: 16, NOBODY: 16}
_MEGAPIXELS_PER_S = {TEACHER: 40.0, VIEWER: 40.0, NOBODY: 20.0}  # of images to predict
_BURST_S = 2.0
_FREE_REFUSALS, _PAUSE_S, _MAX_PAUSED = 10.0, 0.25, 64


class RequestLimits:
    """Refuses bodies that are large, slow, deep or compressed, and too many requests at once.

    A request without the token that it needs is refused before a byte of its body is read. Reading
    has limits of its own, so that slow senders block nobody else. Whoever is refused again and
    again waits a little for each refusal.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], *, auth: TokenCheck,
        paces: dict[str, Rate] | None = None,
    ) -> None:  # fmt: skip
        """Wrap an application.

        Args:
            app: the application.
            auth: decides which requests are answered, and which may send a large body.
            paces: how many megapixels a second each kind of client may have predicted.
        """
        self._app, self._auth = app, auth
        self._paces = predict_paces() if paces is None else paces
        self._taken: Counter[str] = Counter()
        self._reading: Counter[bool] = Counter()
        # large bodies are parsed one at a time; those of others never delay the teacher's
        self._parsing = {trusted: _Lane("bodies" if trusted else "open bodies")
                         for trusted in (True, False)}  # fmt: skip
        self._refusals, self._n_paused = Rate(1.0, _FREE_REFUSALS), 0

    @property
    def _in_flight(self) -> int:
        return self._taken.total()

    @property
    def _reading_bytes(self) -> int:
        return self._reading.total()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who = scope[WHO] = self._auth.who(scope)
        kind = NOBODY if who == WRONG else who
        refused = self._auth.refusal(scope) or self._too_fast(scope, kind)
        if refused is not None:
            if who == WRONG or refused[0] == 429:
                await self._pause()
            if scope["path"] == "/" and refused[0] == 401:  # a browser asks for the token there
                await ask_for_token(send)
            else:
                await refuse(send, *refused)
            return
        body = b""
        if scope["method"] == "POST":
            read = await self._body(scope, receive)
            if isinstance(read, tuple):
                await refuse(send, *read)
                return
            body = read
        place = _place_of(scope["path"], kind)
        if place is not None and self._taken[place] >= _PLACES[place.split()[0]]:
            await self._pause()
            await refuse(send, 503, "too many requests at once; nothing was done")
            return
        if place is not None:
            self._taken[place] += 1
        try:
            await self._pass_on(body, scope, receive, send)
        finally:
            if place is not None:
                self._taken[place] -= 1

    async def _pass_on(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            try:
                scope[PARSED] = await self._parsed(body, self._parsing[scope[WHO] == TEACHER])
            except ValueError:
                await refuse(send, 400, "request body is not valid JSON")
                return
        await self._app(scope, _once(body, receive), send)

    def _too_fast(self, scope: Scope, kind: str) -> tuple[int, str, int] | None:
        if scope["path"] != PREDICT or scope["method"] != "POST":
            return None
        pace = self._paces[kind]
        if pace.left > 0:
            return None
        rate = _MEGAPIXELS_PER_S[kind]
        return 429, f"more than {rate:g} megapixels a second", pace.wait_s(0)

    async def _pause(self) -> None:
        """Slow down whoever is refused all the time."""
        if self._refusals.take(1) or self._n_paused >= _MAX_PAUSED:
            return
        self._n_paused += 1
        try:
            await asyncio.sleep(_PAUSE_S)
        finally:
            self._n_paused -= 1

    async def _body(self, scope: Scope, receive: Receive) -> bytes | tuple[int, str]:
        """Read a body. Returns a status and a reason if it is refused."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        trusted = scope[WHO] == TEACHER
        most = _MAX_BODY_BYTES if trusted else _MAX_OPEN_BODY_BYTES
        large = trusted and scope["path"] != PREDICT
        most_at_once = _MAX_READING_BYTES if large else _MAX_OPEN_READING_BYTES
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
                self._reading[large] += len(part)
                more = message.get("more_body", False)
                if len(body) > most:
                    return too_large
                if self._reading[large] > most_at_once:
                    return 503, "too many request bodies at once; nothing was done"
        except (TimeoutError, asyncio.TimeoutError):
            return 408, "the request body arrived too slowly"
        finally:
            self._reading[large] -= len(body)
        return bytes(body)

    @staticmethod
    async def _parsed(body: bytes, lane: _Lane) -> Any:
        """Parse a body. Large ones are parsed one after another, with pauses for other requests.

        Raises:
            ValueError: see `parse`.
        """
        if not body:
            return None
        if len(body) < _LARGE_BYTES:
            return parse(body)
        async with lane.lock:
            start = time.perf_counter()
            run = asyncio.get_running_loop().run_in_executor
            parsed = await run(lane.thread, parse, body)
            await asyncio.sleep(_REST * (time.perf_counter() - start))
            return parsed


class _Lane:
    """A thread, and a lock by which one at a time uses it."""

    def __init__(self, name: str) -> None:
        self.lock, self.thread = asyncio.Lock(), ThreadPoolExecutor(1, name)


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

    @property
    def left(self) -> float:
        """Number of tokens that are left; below 0 after `borrow`."""
        self.take(math.inf)
        return self._left

    async def borrow(self, n: float) -> None:
        """Wait until a token is left, and take `n`, more than are left if need be."""
        while (left := self.left) <= 0:
            await asyncio.sleep(max(0.01, -left / self._per_s))
        self._left -= n


async def ask_for_token(send: Send) -> None:
    """Answer with the page, which holds nothing of the robot and has a field for the token."""
    text, policy = page_and_policy()
    payload = text.encode()
    await send({"type": "http.response.start", "status": 401, "headers": [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(payload)).encode()),
        (b"content-security-policy", policy.encode()),
        (b"www-authenticate", b"Bearer"),
    ]})  # fmt: skip
    await send({"type": "http.response.body", "body": payload})


def predict_paces() -> dict[str, Rate]:
    """Return how many megapixels a second each kind of client may have predicted."""
    return {who: Rate(rate, _BURST_S * rate) for who, rate in _MEGAPIXELS_PER_S.items()}


def _place_of(path: str, kind: str) -> str | None:
    """Return whose places a request takes. None if it takes none."""
    if path == _EVENTS:
        return None
    if path in _WATCHED:
        return "watch"
    return f"predict {kind}" if path == PREDICT else kind


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
