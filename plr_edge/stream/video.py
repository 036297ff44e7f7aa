"""Video files, read by OpenCV (extra `video`). Knows no camera."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import StreamError, load
from plr_edge.stream.base import Entry, Repeatable, Stream, one_line, take_per_class
from plr_edge.stream.containers import has_no_index, is_unfinished
from plr_edge.stream.spans import Spans

VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg"}
_ENOUGH = 0.98  # of the frames stated: a container without an index states an estimate


def open_video(path: Path, strict: bool, limit_per_class: int | None = None) -> Stream:
    """Open a video file.

    A file `VIDEO.csv` beside it, with the columns start_s, end_s and label, labels spans of time.
    A film with fewer frames than its container states ends with an entry that cannot be read.

    Raises:
        MissingExtraError: OpenCV is not installed.
        StreamError: OpenCV cannot read the file, or its CSV is wrong.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong is reported by us
    cv2 = load("cv2", "video", why="reading a video")
    capture = _capture(cv2, path)
    n_frames = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    capture.release()
    film = _Film(cv2, path, n_frames)
    limited = limit_per_class is not None and bool(film.spans)
    return Stream(
        Repeatable(lambda: take_per_class(film.entries(), limit_per_class)),
        n_frames=None if limited else n_frames or None,
        strict=strict,
        labelled=bool(film.spans),
        labels=dict.fromkeys(film.spans.labels(), str(film.spans.path)),
        notes=film.notes,
    )


class _Film:
    """A film that each reading opens again.

    Attributes:
        spans: its labels.
        notes: how it was read, a sentence each. Changes while it is read.
    """

    def __init__(self, cv2: Any, path: Path, n_stated: int) -> None:
        self._cv2, self._path, self._n_stated = cv2, path, n_stated
        self.spans = Spans(path)
        self.notes = list(self.spans.notes)

    def entries(self) -> Iterator[Entry]:
        """Yield the frames, and at the end of a film that was cut off what is missing."""
        cv2, capture, position, at_ms = self._cv2, _capture(self._cv2, self._path), 0, 0.0
        self.spans.restart()
        try:
            while capture.grab():  # does not decode; `retrieve` does
                # read after `grab`: before, it is the time of the previous frame
                at_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
                source = f"{self._path}#{position}"
                label = self.spans.label_at(at_ms / 1e3)
                load = partial(_retrieve, capture, source)
                yield Entry(load, label, round(at_ms * 1e6), source, str(self.spans.path))
                position += 1
        finally:
            capture.release()
        missing = self._missing(position)
        if missing:
            error = StreamError(missing)
            yield Entry(partial(_refuse, error), None, round(at_ms * 1e6), f"{self._path}#end")
        self.notes[:] = [*self.spans.notes, *self.spans.unused(at_ms / 1e3)]
        if not missing and not self._n_stated and is_unfinished(self._path):
            self.notes.append(
                f"{one_line(self._path)} was not closed by its recorder, so that it does not state "
                f"how many frames it has; {position} were read"
            )

    def _missing(self, n_read: int) -> str:
        """Say how many frames are missing. Empty if the film is whole."""
        n_stated, shown = self._n_stated, one_line(self._path)
        if n_read >= n_stated or (n_read >= _ENOUGH * n_stated and not is_unfinished(self._path)):
            return ""
        return (
            f"{shown} is cut off: {n_read} frames were read of the {n_stated} that its container "
            "states; copy it again, or repair it with `ffmpeg -i FILM -c copy NEW`"
        )


def _capture(cv2: Any, path: Path) -> Any:
    capture = cv2.VideoCapture(str(path))
    if capture.isOpened():
        return capture
    shown = one_line(path)
    if not path.stat().st_size:
        raise StreamError(f"{shown} is empty (0 bytes); record it again or remove it")
    if has_no_index(path):
        raise StreamError(
            f"{shown} has no index (moov), because its recording was cut off before the end. "
            "`untrunc` repairs it with a whole film of the same camera; a recording in .mkv "
            "survives a power cut"
        )
    if _is_film(path) and is_unfinished(path):
        raise StreamError(
            f"{shown} is cut off: it is shorter than it states, and OpenCV can read nothing of it; "
            "copy it again"
        )
    raise StreamError(
        f"{shown} is not a video that OpenCV can read; convert it with `ffmpeg -i {path.name} -c:v "
        "libx264 NEW.mp4`"
    )


def _is_film(path: Path) -> bool:
    """Whether a file begins like a film, whose sizes mean something."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" or head[8:12] == b"AVI " or head[:4] == b"\x1aE\xdf\xa3"


def _retrieve(capture: Any, source: str) -> np.ndarray:
    read, image = capture.retrieve()
    if not read or image is None:
        raise StreamError(f"{one_line(source)} cannot be decoded; record the video again")
    return np.ascontiguousarray(image[:, :, ::-1])  # BGR -> RGB


def _refuse(error: StreamError) -> np.ndarray:
    raise error
