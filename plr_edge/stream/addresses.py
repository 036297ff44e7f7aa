"""Addresses of sources: which are cameras, and how they are shown to people. Opens nothing."""

from __future__ import annotations

import re

from plr_edge.errors import StreamError
from plr_edge.stream.messages import one_line

_CAMERAS = ("rtsp://", "rtsps://", "http://", "https://")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(
    r"(://)[^/@\s]*@|\b((?:user|pass|pw|pwd|token|key)\w*=)[^&\s!]+", re.IGNORECASE
)


def is_camera(source: str) -> bool:
    """Return whether a source is a camera: its number, device, address, or a pipeline."""
    device = (source.isascii() and source.isdigit()) or source.startswith("/dev/")
    return device or source.lower().startswith(_CAMERAS) or " ! " in source


def refuse_unknown_address(source: str) -> None:
    """Refuse an address of a kind that no source has.

    Raises:
        StreamError: it is one.
    """
    if _ADDRESS.match(source):
        shown = one_line(without_password(source), 80)
        raise StreamError(f"{shown} is not an address of a camera; write rtsp:// or http://")


def without_password(source: str) -> str:
    """Return a source as it may be shown: without user names, passwords and tokens."""
    return _SECRET.sub(lambda m: f"{m[1]}***@" if m[1] else f"{m[2]}***", source)
