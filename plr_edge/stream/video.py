"""Video files, by OpenCV (extra `video`)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from plr_edge.errors import MissingExtraError, StreamError
from plr_edge.stream.base import Entry, Stream

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"}


def open_video(path: Path, strict: bool) -> Stream:
    """Open a video file; every frame is read.

    A file `VIDEO.csv` beside it, with the columns start_s, end_s and label, labels spans of it.

    Raises:
        MissingExtraError: OpenCV is not installed.
        StreamError: the file is no video that OpenCV can read.
    """
    try:
        import cv2
    except ImportError:
        raise MissingExtraError(
            "reading a video needs OpenCV; install it with `pip install 'plr-edge[video]'`"
        ) from None
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise StreamError(f"{path} is no video that OpenCV can read; try to convert it to .mp4")
    n_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    spans = _spans(path.with_name(path.name + ".csv"))
    return Stream(_entries(cv2, capture, path, spans), n_frames=max(n_frames, 0) or None, strict=strict)


def _entries(cv2, capture, path: Path, spans: list[tuple[float, float, str]]) -> Iterator[Entry]:  # type: ignore[no-untyped-def]
    position = 0
    while True:
        stamp_ns = int(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        read, image = capture.read()
        if not read:
            break
        at_s = stamp_ns / 1e9
        label = next((name for start, end, name in spans if start <= at_s < end), None)
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        yield Entry(partial(_itself, rgb), label, stamp_ns, f"{path}#{position}")
        position += 1
    capture.release()


def _itself(image: np.ndarray) -> np.ndarray:
    return image


def _spans(path: Path) -> list[tuple[float, float, str]]:
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return [(float(row["start_s"]), float(row["end_s"]), row["label"]) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StreamError(f"{path} needs start_s, end_s and label in each row ({error!r})") from None
