"""Video files, read by OpenCV (extra `video`). Knows no camera."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import StreamError, load
from plr_edge.stream.base import Entry, Repeatable, Stream, check_label_at, one_line, take_per_class

_Span = tuple[float, float, "str | None"]  # start and end in seconds, label
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"}


def open_video(path: Path, strict: bool, limit_per_class: int | None = None) -> Stream:
    """Open a video file.

    A file `VIDEO.csv` beside it, with the columns start_s, end_s and label, labels spans of time.

    Raises:
        MissingExtraError: OpenCV is not installed.
        StreamError: OpenCV cannot read the file.
    """
    cv2 = load("cv2", "video", why="reading a video")
    capture = _capture(cv2, path)
    n_frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    capture.release()
    sidecar = path.with_name(path.name + ".csv")
    spans = _spans(sidecar)
    for _, _, label in spans:
        if label is not None:
            check_label_at(label, str(sidecar))
    limited = limit_per_class is not None and bool(spans)
    return Stream(
        Repeatable(lambda: take_per_class(_entries(cv2, path, spans), limit_per_class)),
        n_frames=None if limited else n_frames or None,
        strict=strict,
        labelled=bool(spans),
    )


def _capture(cv2: Any, path: Path) -> Any:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise StreamError(
            f"{one_line(path)} is not a video that OpenCV can read; try to convert it to .mp4"
        )
    return capture


def _entries(cv2: Any, path: Path, spans: list[_Span]) -> Iterator[Entry]:
    sidecar = f"{path}.csv"
    capture = _capture(cv2, path)
    try:
        position = 0
        while capture.grab():  # does not decode; `retrieve` does
            # read after `grab`: before, it is the time of the previous frame
            at_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            label = next((name for start, end, name in spans if start <= at_ms / 1e3 < end), None)
            source = f"{path}#{position}"
            load = partial(_retrieve, capture, source)
            yield Entry(load, label, round(at_ms * 1e6), source, sidecar)
            position += 1
    finally:
        capture.release()


def _retrieve(capture: Any, source: str) -> np.ndarray:
    read, image = capture.retrieve()
    if not read or image is None:
        raise StreamError(f"{one_line(source)} cannot be decoded; record the video again")
    return np.ascontiguousarray(image[:, :, ::-1])  # BGR -> RGB


def _spans(path: Path) -> list[_Span]:
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        return [
            (
                float(row["start_s"]),
                float(row["end_s"]),
                row["label"] if row["label"].strip() else None,
            )
            for row in rows
        ]
    except (OSError, KeyError, TypeError, AttributeError, ValueError, csv.Error) as error:
        raise StreamError(
            f"{one_line(path)} needs start_s, end_s and label in each row ({one_line(error, 80)})"
        ) from None
