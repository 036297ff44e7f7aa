"""HTTP requests to a running `plr-edge run`, for `teach`, `status` and `watch`."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError

_TIMEOUT_S = 15
_CAN_PASS = (408, 429, 502, 503, 504, 507)  # statuses of what may succeed later


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def ask(
    listen: str,
    method: str,
    path: str,
    body: Any = None,
    state: Path | None = None,
    *,
    good: tuple[int, ...] = (200,),
) -> http.client.HTTPResponse:
    """Send one request and return the response.

    Args:
        listen: `HOST:PORT` or `unix:PATH`.
        method: HTTP method.
        path: path of the request, with its leading slash.
        body: request body, sent as JSON. None sends no body.
        state: directory of the learned state, which holds the token. None sends no token.
        good: statuses of a response that is returned.

    Raises:
        ConfigError: `listen` is malformed, `state` holds no token, nothing answers, or the status
            is another one.
    """
    from plr_edge.serve.address import parse_listen

    place = parse_listen(listen)
    connection: http.client.HTTPConnection
    if isinstance(place, str):
        connection = _UnixConnection(place)
    else:
        connection = http.client.HTTPConnection(*place, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json"}
    if state is not None:
        headers["Authorization"] = f"Bearer {_token(state)}"
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"nothing answers at {listen} ({error}); start `plr-edge run`, or give its --listen",
            can_pass=True,
        ) from None
    if response.status not in good:
        detail = json.loads(response.read() or b"{}").get("detail", response.reason)
        raise ConfigError(f"refused: {detail}", can_pass=response.status in _CAN_PASS)
    return response


def _token(state: Path) -> str:
    try:
        token = (state / "token").read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{state} has no token that can be read ({reason}); check --state, which must be that "
            "of `plr-edge run`"
        ) from None
    if not token.isascii() or not token.isprintable():
        raise ConfigError(f"{state / 'token'} is damaged; delete it and start `plr-edge run` again")
    return token
