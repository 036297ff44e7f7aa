"""Notifications to systemd (sd_notify): ready, watchdog, status, stopping."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(message: str) -> None:
    """Send a message to systemd. Nothing happens if it does not listen.

    systemd passes the address of its socket in `$NOTIFY_SOCKET`. An address that starts with `@`
    is in the abstract namespace.

    Errors are ignored, because a robot must run without systemd too.

    Args:
        message: one or more lines such as `READY=1`, see sd_notify(3).
    """
    if message == "READY=1" and (usual := os.environ.get("WATCHDOG_USEC")):
        message += f"\nWATCHDOG_USEC={usual}"  # a robot that starts again was granted more
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
