"""Addresses of the HTTP interface, as servers and clients write them. Knows no library."""

from __future__ import annotations

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
    return isinstance(place, str) or place[0] in _LOOPBACK
