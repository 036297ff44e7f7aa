"""Live sources: a camera, a stream played at its own rate, a folder that is watched.

Each is an iterator of frames, for a thread of its own. The reader drops the frames that come too
fast.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import StreamError, load
from plr_edge.stream.bag import is_bag
from plr_edge.stream.base import Frame, one_line
from plr_edge.stream.watched import WatchedFolder

_FAILURES_IN_A_ROW = 50
_NETWORK_MS = 5000
_PAUSES_S = (1.0, 2.0, 5.0, 10.0)  # before a failed camera is opened again


class LiveSource:
    """Frames as they arrive, and the health of their source.

    Attributes:
        kind: type of the source: camera, folder, bag or film.
        trouble: why no frames arrive. Empty if they do.
        heard_s: `time.monotonic` of the last read from the driver. None for sources that cannot
            hang.
    """

    def __init__(self, kind: str, frames: Callable[[LiveSource], Iterator[Frame]]) -> None:
        """Create a source.

        Args:
            kind: type of the source.
            frames: yields frames of the source, and updates its attributes.
        """
        self.kind, self.trouble = kind, ""
        self.heard_s: float | None = None
        self._frames = frames(self)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)


def open_live(
    source: str, stop: threading.Event, rate: float | None = None, topic: str | None = None
) -> LiveSource:
    """Open a live source.

    Args:
        source: a camera (`0`, `/dev/video0`, an rtsp:// address, a GStreamer pipeline), a folder to
            watch, or a stream of `open_stream`, which is played at its rate.
        stop: ends the iteration.
        rate: frames per second of a stream. None follows its stamps, or plays 30 without them.
        topic: image topic of a ROS bag. Required if there are several.

    Raises:
        StreamError: there is no such source.
        MissingExtraError: the source needs OpenCV.
    """
    if source.isdigit() or source.startswith(("/dev/", "rtsp://", "rtsps://")) or " ! " in source:
        return _camera(source, stop)
    path = Path(source)
    if is_bag(path):
        return _played("bag", source, stop, rate, topic)
    if path.is_dir() and not any(p.is_dir() and p.name[0] != "." for p in path.iterdir()):
        folder = WatchedFolder(path)
        return LiveSource("folder", lambda self: _watched(self, folder, stop))
    return _played("film", source, stop, rate, topic)


def _camera(source: str, stop: threading.Event) -> LiveSource:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # errors are reported by us
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = load("cv2", "video", why="a camera")
    capture = _opened(cv2, source)
    return LiveSource("camera", lambda self: _captured(self, cv2, capture, source, stop))


def _opened(cv2: Any, source: str) -> Any:
    if source.startswith(("rtsp://", "rtsps://")):  # the default timeout is half a minute
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
        limits = [number for name in timeouts for number in (name, _NETWORK_MS)]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    else:
        backend = cv2.CAP_GSTREAMER if " ! " in source else cv2.CAP_ANY
        capture = cv2.VideoCapture(int(source) if source.isdigit() else source, backend)
    if not capture.isOpened():
        information = [line.split() for line in cv2.getBuildInformation().splitlines()]
        has = "with" if any(x[:2] == ["GStreamer:", "YES"] for x in information) else "without"
        raise StreamError(
            f"cannot open the camera {one_line(source, 80)}; check that it is connected and not in "
            f"use. OpenCV {cv2.__version__} was built {has} GStreamer"
        )
    return capture


def _captured(
    self: LiveSource, cv2: Any, capture: Any, source: str, stop: threading.Event
) -> Iterator[Frame]:
    """Read a camera. If it fails, close it and open it again after a pause."""
    index = n_failures = n_pauses = 0
    try:
        while not stop.is_set():
            self.heard_s = time.monotonic()
            good, image = capture.read() if capture is not None else (False, None)
            if good and image is not None:
                self.trouble, n_failures, n_pauses = "", 0, 0
                yield Frame(_rgb(image), None, time.time_ns(), f"camera#{index}", index)
                index += 1
                continue
            n_failures += 1
            if n_failures < _FAILURES_IN_A_ROW and capture is not None:
                stop.wait(0.02)
                continue
            self.trouble = f"the camera {one_line(source, 80)} delivers no frames; trying again"
            if capture is not None:
                capture.release()
                capture = None
            stop.wait(_PAUSES_S[min(n_pauses, len(_PAUSES_S) - 1)])
            n_pauses, n_failures = n_pauses + 1, 0
            try:
                capture = _opened(cv2, source)
            except StreamError:
                continue
    finally:
        if capture is not None:
            capture.release()


def _rgb(image: np.ndarray) -> np.ndarray:
    """Convert an image of OpenCV, (H, W, 3) BGR or (H, W) grey, to (H, W, 3) uint8 RGB."""
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[:, :, 2::-1])


def _watched(self: LiveSource, folder: WatchedFolder, stop: threading.Event) -> Iterator[Frame]:
    """Yield the images that are written into a folder."""
    for frame in folder.frames(stop):
        self.trouble = folder.trouble
        if frame is not None:
            yield frame


def _played(
    kind: str, source: str, stop: threading.Event, rate: float | None, topic: str | None
) -> LiveSource:
    from plr_edge.stream import open_stream

    stream = open_stream(source, topic=topic)

    def frames(_: LiveSource) -> Iterator[Frame]:
        start, last_ns, due = 0.0, None, 0.0
        for index, frame in enumerate(stream):
            start = start or time.monotonic()  # the first frame takes a while to decode
            if rate is not None or last_ns is None or frame.stamp_ns <= last_ns:
                due += 1.0 / (30.0 if rate is None else rate) if index else 0.0
            else:
                due += min((frame.stamp_ns - last_ns) / 1e9, 1.0)
            last_ns = frame.stamp_ns
            if stop.wait(max(0.0, start + due - time.monotonic())):
                return
            image = np.ascontiguousarray(frame.image)
            yield Frame(image, None, time.time_ns(), frame.source, index)

    return LiveSource(kind, frames)
