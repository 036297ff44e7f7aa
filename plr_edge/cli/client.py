"""HTTP requests to a running `plr-edge run`, by its address or by its state."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError

_TIMEOUT_S = 15
_DEFAULT = "127.0.0.1:8077"
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


class _PinnedConnection(http.client.HTTPSConnection):
    """HTTPS to the one server that has the certificate with a fingerprint."""

    def __init__(self, host: str, port: int, fingerprint: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the pin decides
        super().__init__(host, port, timeout=_TIMEOUT_S, context=context)
        self._fingerprint = fingerprint

    def connect(self) -> None:
        """Connect, and check the fingerprint before anything is sent."""
        super().connect()
        certificate = self.sock.getpeercert(binary_form=True)
        found = hashlib.sha256(certificate or b"").hexdigest()
        if found != self._fingerprint:
            self.close()
            raise ConfigError(
                f"{self.host}:{self.port} has the certificate {found}, not {self._fingerprint}; "
                "somebody may be in between. If the robot has a new certificate, give its "
                "--fingerprint"
            )


@dataclass(frozen=True)
class Target:
    """The robot to ask, and what proves who asks.

    Attributes:
        listen: `HOST:PORT` or `unix:PATH`. None takes what the robot of `state` says.
        state: directory of its state, which holds tokens and fingerprint. None if it is elsewhere.
        token_file: file with the token. None takes the one of `state`.
        fingerprint: SHA-256 of its certificate.
        insecure: the robot is not encrypted, although it is another machine.
    """

    listen: str | None = None
    state: Path | None = None
    token_file: Path | None = None
    fingerprint: str | None = None
    insecure: bool = False


def ask(
    target: Target | str,
    method: str,
    path: str,
    body: Any = None,
    state: Path | None = None,
    *,
    good: tuple[int, ...] = (200,),
) -> http.client.HTTPResponse:
    """Send one request and return the response, when what it asks for is done.

    Args:
        target: the robot. Or its address, for what needs no token.
        method: HTTP method.
        path: path of the request, with its leading slash.
        body: request body, sent as JSON. None sends no body.
        state: directory of its state, if `target` is an address.
        good: statuses of a response that is returned.

    Raises:
        ConfigError: the address is malformed, there is no token, nothing answers, the certificate
            is another, or the request is refused.
    """
    target = Target(target, state) if isinstance(target, str) else target
    response = _sent(target, method, path, body)
    if response.status == 202:
        return _finished(target, json.loads(response.read()))
    if response.status not in good:
        try:
            detail = json.loads(response.read() or b"{}").get("detail", response.reason)
        except ValueError:
            detail = response.reason
        raise ConfigError(f"refused: {detail}", can_pass=response.status in _CAN_PASS)
    return response


def answer(
    target: Target | str, method: str, path: str, body: Any = None, good: tuple[int, ...] = (200,)
) -> Any:
    """Send one request and return its answer; see `ask`."""
    response = ask(target, method, path, body, good=good)
    facts = json.loads(response.read())
    waited = method == "POST" and isinstance(facts, dict) and facts.get("state") == "done"
    return facts["answer"] if waited and "operation" in facts else facts


def _finished(target: Target, facts: dict[str, Any]) -> http.client.HTTPResponse:
    """Ask for an operation until it is done."""
    import click

    click.echo(f"{facts['kind']} takes a while; it goes on if you end this command", err=True)
    pause_s = 0.2
    while True:
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 2.0)
        response = _sent(target, "GET", f"/operations/{facts['operation']}", None)
        text = response.read()
        if response.status != 200:
            raise ConfigError(
                f"the robot no longer knows operation {facts['operation']}; `plr-edge log` shows "
                "whether it was done"
            )
        now = json.loads(text)
        if now["state"] == "failed":
            raise ConfigError(f"refused: {now['detail']}")
        if now["state"] == "done":
            response = _sent(target, "GET", f"/operations/{facts['operation']}", None)
            return response


def _sent(target: Target, method: str, path: str, body: Any) -> http.client.HTTPResponse:
    from plr_edge.serve.access import Address, address_of
    from plr_edge.serve.address import parse_listen

    address = None if target.state is None else address_of(target.state)
    if target.listen is not None:
        here = address is not None and _port(address.listen) == _port(target.listen)
        address = Address(target.listen, address.fingerprint if here and address else None)
    address = address or Address(_DEFAULT)
    parse_listen(address.listen)  # before the token, which is another matter
    headers = {"Content-Type": "application/json"}
    token = _token(target)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection = _connection(address.listen, address.fingerprint, target)
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, headers)
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        secured = " If it is encrypted, give --state or --fingerprint." if isinstance(
            error, (http.client.BadStatusLine, http.client.RemoteDisconnected)
        ) else ""  # fmt: skip
        raise ConfigError(
            f"nothing answers at {address.listen} ({error}); start `plr-edge run`, or give its "
            f"--listen.{secured}".rstrip("."),
            can_pass=True,
        ) from None


def _port(listen: str) -> str:
    return listen if listen.startswith("unix:") else listen.rpartition(":")[2]


def _connection(listen: str, fingerprint: str | None, target: Target) -> http.client.HTTPConnection:
    from plr_edge.serve.address import is_loopback, parse_listen
    from plr_edge.serve.certificate import read_fingerprint

    place = parse_listen(listen)
    if isinstance(place, str):
        return _UnixConnection(place)
    host, port = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(place[0], place[0]), place[1]
    if target.fingerprint is not None:
        fingerprint = read_fingerprint(target.fingerprint)
    if fingerprint is None and target.state is not None and not is_loopback(listen):
        fingerprint = _own_fingerprint(target.state)
    if target.insecure or (fingerprint is None and is_loopback(listen)):
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    if fingerprint is None:  # signed by an authority that this machine trusts
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S)
    return _PinnedConnection(host, port, fingerprint)


def _own_fingerprint(state: Path) -> str | None:
    from plr_edge.serve.certificate import FILE, fingerprint_of

    try:
        return fingerprint_of((state / FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _token(target: Target) -> str | None:
    from plr_edge.serve.tokens import FILES, TEACHER, read_secret

    if target.token_file is not None:
        return read_secret(target.token_file, "write the token of the robot into it")
    if target.state is None:
        return None
    file = target.state / FILES[TEACHER]
    if not file.exists() and not file.is_symlink():
        raise ConfigError(
            f"{target.state} has no token that can be read (No such file or directory); check "
            "--state, which must be that of `plr-edge run`"
        )
    return read_secret(file, f"`plr-edge token {target.state} --rotate teacher` makes a new one")
