"""Addresses of the HTTP interface, as servers and clients write them. Knows no library."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from plr_edge.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parse_listen(listen: str) -> tuple[str, int] | str:
    """Return host and port, or the path of a Unix socket.

    Raises:
        ConfigError: the address is neither `HOST:PORT` nor `unix:PATH`.
    """
    if listen.startswith("unix:") and listen[5:]:
        return listen[5:]
    host, _, port = listen.rpartition(":")
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not host or not digits or int(port) > 65535:
        raise ConfigError(f"--listen is {listen[:60]!r}; write HOST:PORT or unix:PATH")
    return host.strip("[]"), int(port)


def is_loopback(listen: str) -> bool:
    """Return whether only this machine can reach an address.

    Raises:
        ConfigError: the address is neither `HOST:PORT` nor `unix:PATH`.
    """
    place = parse_listen(listen)
    return isinstance(place, str) or place[0] in _LOOPBACK or _is_loopback_ip(place[0])


class HostCheck:
    """Which names a robot answers to.

    A page of a stranger can make a browser send requests to a name of its own that resolves to the
    robot's address (DNS rebinding). An IP address cannot be rebound, so any is accepted.
    """

    def __init__(self, listen: str, names: Sequence[str] = ()) -> None:
        """Accept the names of an address.

        Args:
            listen: `HOST:PORT` or `unix:PATH`.
            names: further names.
        """
        place = parse_listen(listen)
        known = {"localhost", *(name.lower().rstrip(".") for name in names)}
        if not isinstance(place, str):
            known.add(place[0].lower())
        if not is_loopback(listen):
            own = socket.gethostname().lower()
            known |= {own, f"{own.split('.')[0]}.local"}
        self._known = known

    def __call__(self, host: str) -> bool:
        """Return whether a `Host` header, e.g. `robot.local:8077`, is one of them."""
        name = host_of(host)
        return name is not None and (name in self._known or _is_ip(name))


def host_of(header: str) -> str | None:
    """Return the host of `HOST` or `HOST:PORT`, None if it is malformed."""
    if header.startswith("["):
        host, closed, port = header[1:].partition("]")
        port = port.removeprefix(":") if port.startswith(":") or not port else "x"
        well = bool(closed) and _is_ip(host)
    else:
        host, _, port = header.partition(":")
        well = bool(host)
    if not well or (port and not (port.isascii() and port.isdigit())):
        return None
    return host.lower().rstrip(".")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback_ip(host: str) -> bool:
    return _is_ip(host) and ipaddress.ip_address(host).is_loopback
