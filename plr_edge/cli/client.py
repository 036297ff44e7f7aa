"""What `teach`, `status` and `watch` share: requests to a running `plr-edge run`."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError

_TIMEOUT_S = 15


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
    listen: str, method: str, path: str, body: Any = None, state: Path | None = None
) -> http.client.HTTPResponse:
    """Send one request; what is not 200 is an error.

    Raises:
        ConfigError: nobody listens, or the answer is a refusal.
    """
    connection: http.client.HTTPConnection
    if listen.startswith("unix:"):
        connection = _UnixConnection(listen[5:])
    else:
        connection = http.client.HTTPConnection(listen, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json"}
    try:
        if state is not None:
            headers["Authorization"] = f"Bearer {(state / 'token').read_text().strip()}"
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"nobody answers at {listen} ({error}); start `plr-edge run`, or give its --listen"
        ) from None
    if response.status != 200:
        detail = json.loads(response.read() or b"{}").get("detail", response.reason)
        raise ConfigError(f"refused: {detail}")
    return response
