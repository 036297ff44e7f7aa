"""Serves the API on a TCP address or a Unix socket, on a thread of its own.

The address is bound at once. The libraries of the API are loaded while the first frames are
answered.
"""

from __future__ import annotations

import asyncio.constants
import errno
import logging
import os
import re
import resource
import socket
import stat
import threading
from collections.abc import Callable
from typing import Any

from plr_edge.errors import ConfigError, may_pass, require
from plr_edge.robot.robot import Robot
from plr_edge.serve.access import Access, Address
from plr_edge.serve.address import parse_listen

_log = logging.getLogger(__name__)
_BACKLOG, _MAX_CONNECTIONS = 512, 1500
_END_S = 1.5
_HANDSHAKE_S = 10.0  # the default keeps a connection that says nothing for a minute


class Service:
    """The HTTP server of one robot."""

    def __init__(
        self, robot: Robot, access: Access, listen: str, ready: Callable[[Address], None]
    ) -> None:
        """Bind the address, and start to serve.

        Args:
            robot: robot to serve. It is stopped if serving fails.
            access: who may see and do what, and by which certificate.
            listen: `HOST:PORT`, or `unix:PATH`.
            ready: called with the address once requests are answered.

        Raises:
            ConfigError: the address is malformed or in use.
            MissingExtraError: the extra `serve` is not installed.
        """
        require("serve", why="the HTTP interface")
        self._robot, self._access, self._ready = robot, access, ready
        self._socket = bound(listen)
        where = listen
        if not listen.startswith("unix:"):  # port 0 chose a free port
            host, _, _ = listen.rpartition(":")
            where = f"{host}:{self._socket.getsockname()[1]}"
        certificate = access.certificate
        self._address = Address(where, None if certificate is None else certificate.fingerprint)
        self._server: Any = None
        self.failed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, and close open connections."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            _log.exception("serving ended")
            self.failed = True
            self._robot.stop()

    def _serve(self) -> None:
        import uvicorn

        from plr_edge.serve.api import make_app
        from plr_edge.serve.protocol import ImpatientProtocol

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * _MAX_CONNECTIONS), most))
        asyncio.constants.SSL_HANDSHAKE_TIMEOUT = _HANDSHAKE_S
        access, own = self._access, self._access.certificate
        config = uvicorn.Config(
            make_app(self._robot, access.check, access.hosts), http=ImpatientProtocol, ws="none",
            ssl_certfile=own.chain if own else None, ssl_keyfile=own.key if own else None,
            log_level="critical", access_log=False, server_header=False, lifespan="off",
            backlog=_BACKLOG, limit_concurrency=_MAX_CONNECTIONS, timeout_keep_alive=5,
            h11_max_incomplete_event_size=16384, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        if not self._robot.stopping.is_set():
            self._ready(self._address)
            self._server.run([self._socket])


def bound(listen: str) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        ConfigError: the address is malformed or in use.
    """
    place = parse_listen(listen)
    try:
        if isinstance(place, str):
            return _bound_path(place)
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        return socket.create_server(place, family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = f"{error.strerror or error}; choose another --listen"
        passes = may_pass(error) or _may_be_named_later(error, listen)
        raise ConfigError(f"cannot listen on {listen}: {reason}", can_pass=passes) from None


def _may_be_named_later(error: OSError, listen: str) -> bool:
    """Return whether a host is not known yet. An address in digits that is wrong stays wrong."""
    is_name = (error.errno or 0) < 0  # as the resolver numbers its errors
    return is_name and bool(re.search(r"[g-z]", listen, re.IGNORECASE))


def _bound_path(path: str) -> socket.socket:
    """Bind a path that only the owner can use. A socket left by a killed process is removed."""
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "it exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass  # nothing there, or not a socket: `bind` reports it
        else:
            raise OSError(errno.EADDRINUSE, "it is in use")
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        taken.bind(path)
    finally:
        os.umask(before)
    return taken
