"""Streams of frames: folders, CSV files, image packs, videos, paths on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Frame, Skipped, Stream, check_label, decode_image

__all__ = ["Frame", "Skipped", "Stream", "check_label", "decode_image", "open_stream"]

_KINDS = (
    "a folder of class/image, a folder of images, a .csv, an image pack, a video, "
    "`-` for paths on standard input, or `demo`"
)


def open_stream(
    spec: str | Path,
    *,
    split: str = "train",
    strict: bool = False,
    limit_per_class: int | None = None,
    lines: Iterable[str] | None = None,
) -> Stream:
    """Open a finite source of frames.

    Args:
        spec: path of a folder, .csv, image pack or video; `-`; or `demo`, the embedded stream.
        split: part of an image pack; other sources have none.
        strict: stop at an unreadable image instead of skipping it.
        limit_per_class: of an image pack, take the first so many of each class.
        lines: what `-` reads; standard input by default.

    Raises:
        StreamError: there is no such source, or it holds no frame.
        MissingExtraError: it needs an optional library.
    """
    from plr_edge.stream import folder, packs, video

    if str(spec) == "-":
        return folder.open_lines(sys.stdin if lines is None else lines, strict)
    if str(spec) == "demo":
        from plr_edge.assets import FRUITS

        spec = FRUITS
    path = Path(spec)
    if not path.exists():
        raise StreamError(f"there is no {path}; a stream is {_KINDS}")
    if packs.is_pack(path):
        return packs.open_pack(path, split, strict, limit_per_class)
    if path.is_dir():
        return folder.open_folder(path, strict)
    if path.suffix.lower() == ".csv":
        return folder.open_csv(path, strict)
    if path.suffix.lower() in video.VIDEO_SUFFIXES:
        return video.open_video(path, strict)
    raise StreamError(f"{path} is no stream; a stream is {_KINDS}")
