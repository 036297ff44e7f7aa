"""Serves the API on a loopback address or a Unix socket, on a thread of its own."""

from __future__ import annotations

import os
import resource
import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError, MissingExtraError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BACKLOG, _MAX_CONNECTIONS = 512, 1500


def read_token(path: Path) -> str:
    """Return the token of a state, made at its first use; only the owner may read it.

    Raises:
        ConfigError: it cannot be read or made.
    """
    file = path / "token"
    try:
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as made:
                made.write(secrets.token_urlsafe(24))
        return file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot read or make {file}: {error.strerror}") from None


def start_server(app: Any, listen: str) -> tuple[Any, threading.Thread]:
    """Serve until `should_exit` is set.

    Args:
        app: from `make_app`.
        listen: `HOST:PORT`, or `unix:PATH`.

    Raises:
        ConfigError: the address is none, or is taken.
        MissingExtraError: the extra `serve` is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError(
            "serving needs the extra `serve`: pip install 'plr-edge[serve]'"
        ) from None
    place = parse_listen(listen)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * _MAX_CONNECTIONS), most))
    config = uvicorn.Config(
        app, **place, log_level="error", access_log=False, lifespan="off", backlog=_BACKLOG,
        limit_concurrency=_MAX_CONNECTIONS, timeout_keep_alive=5,
        h11_max_incomplete_event_size=16384, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    try:
        sockets = [config.bind_socket()]
    except (OSError, SystemExit):
        raise ConfigError(
            f"cannot listen on {listen}; is it taken? choose another --listen"
        ) from None
    if "uds" in place:
        os.chmod(place["uds"], 0o600)
    thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
    thread.start()
    return server, thread


def parse_listen(listen: str) -> dict[str, Any]:
    """Return what uvicorn takes.

    Raises:
        ConfigError: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    if listen.startswith("unix:"):
        return {"uds": listen[5:]}
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--listen is {listen[:60]!r}; write HOST:PORT or unix:PATH")
    return {"host": host.strip("[]"), "port": int(port)}


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach it."""
    place = parse_listen(listen)
    return "uds" in place or place["host"] in _LOOPBACK
