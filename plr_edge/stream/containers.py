"""What the container of a film says about its own end: .mp4, .mov, .mkv, .webm, .avi.

A recorder writes these facts when it closes the file, so that they are missing or wrong after a
power cut. Only sizes are read, no image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BOXES = {".mp4", ".mov", ".m4v", ".3gp"}
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_MAX_BOXES = 10_000


def has_no_index(path: Path) -> bool:
    """Whether a file like .mp4 lacks `moov`, without which nothing of it can be read."""
    if path.suffix.lower() not in _BOXES:
        return False
    with open(path, "rb") as file:
        kinds = [kind for kind, _ in _boxes(file)]
    return b"moov" not in kinds and bool({b"ftyp", b"mdat", b"wide", b"free"} & set(kinds))


def is_unfinished(path: Path) -> bool:
    """Whether a container ends before its stated end, or states none, as while it is recorded."""
    n_bytes = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            stated = struct.unpack("<I", head[4:8])[0]
            return stated == 0 or stated + 8 > n_bytes
        if head[:4] == _EBML.to_bytes(4, "big"):
            return _matroska_end(head) is None or (_matroska_end(head) or 0) > n_bytes
        if path.suffix.lower() in _BOXES:
            return any(end > n_bytes for _, end in _boxes(file))
    return False


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the kind and the stated end of each box at the top of an .mp4."""
    at = 0
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if size == 0:  # up to the end of the file
            yield kind, at
            return
        if size < 8:
            return
        yield kind, at + size
        at += size


def _matroska_end(head: bytes) -> int | None:
    """Return where the segment of a Matroska file ends as stated. None if that is not stated."""
    at = 4
    size, at = _vint(head, at)
    at += size or 0  # behind the EBML header
    if head[at : at + 4] != _SEGMENT.to_bytes(4, "big"):
        return 0
    size, at = _vint(head, at + 4)
    return None if size is None else at + size


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """Read a number of variable length; None stands for unknown. Returns where it ends."""
    if at >= len(data) or not data[at]:
        return 0, at
    n_bytes = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + n_bytes], "big") & ((1 << 7 * n_bytes) - 1)
    return (None if value == (1 << 7 * n_bytes) - 1 else value), at + n_bytes
