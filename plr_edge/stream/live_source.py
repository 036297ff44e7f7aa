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
from plr_edge.stream.addresses import is_camera, refuse_unknown_address, without_password
from plr_edge.stream.bag import is_bag
from plr_edge.stream.base import Frame, one_line
from plr_edge.stream.watched import DriverCalls, WatchedFolder

CAMERA = "camera"  # kind of source
_FAILING_S = 1.0  # of reads that fail, before a camera is closed and opened again
_NETWORK_MS = 5000
_PAUSES_S = (1.0, 2.0, 5.0, 10.0)  # before a failed camera is opened again


class LiveSource:
    """Frames as they arrive, and the health of their source.

    Attributes:
        kind: type of the source: camera, folder, bag or film.
        name: the source as people are shown it, without a password.
        trouble: why no frames arrive. Empty if they do, or if nothing is known of a trouble.
        calls: says since when the driver or the file system has not returned.
        may_be_silent: whether it is normal that no frames come for long.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        frames: Callable[[LiveSource], Iterator[Frame]],
        calls: DriverCalls | None = None,
    ) -> None:
        """Create a source.

        Args:
            kind: type of the source.
            name: the source as people are shown it.
            frames: yields frames of the source, and updates its attributes.
            calls: calls of a driver that `frames` makes.
        """
        self.kind, self.name, self.trouble = kind, name, ""
        self.calls = calls or DriverCalls()
        self.may_be_silent = kind == "folder"
        self._frames = frames(self)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)


def open_live(
    source: str, stop: threading.Event, rate: float | None = None, topic: str | None = None
) -> LiveSource:
    """Open a live source. A camera is opened when its first frame is asked for.

    Args:
        source: a camera (`0`, `/dev/video0`, an rtsp:// or http:// address, a GStreamer pipeline),
            a folder to watch, or a stream of `open_stream`, which is played at its rate.
        stop: ends the iteration.
        rate: frames per second of a stream. None follows its stamps, or plays 30 without them. A
            folder is played instead of watched if a rate is given.
        topic: image topic of a ROS bag. Required if there are several.

    Raises:
        StreamError: there is no such source. `can_pass` tells whether there may be one later.
        MissingExtraError: the source needs OpenCV.
    """
    if is_camera(source):
        if rate is not None or topic is not None:
            raise StreamError("--rate and --topic are for a film or a bag; a camera has neither")
        return _camera(source, stop)
    refuse_unknown_address(source)
    path, shown = Path(source), one_line(source, 80)
    if source not in ("", "-", "demo") and not os.path.lexists(path):
        raise StreamError(
            f"there is no {shown}; a source is a camera, an rtsp:// or http:// address, a film, a "
            "bag, a folder to watch, or `none`",
            can_pass=True,
        )
    if is_bag(path):
        return _played("bag", source, stop, rate, topic)
    if path.is_dir() and rate is None and topic is None:
        folder = WatchedFolder(path)
        frames: Callable[[LiveSource], Iterator[Frame]] = lambda self: _watched(self, folder, stop)  # noqa: E731
        return LiveSource("folder", f"folder {shown}", frames, folder.calls)
    return _played("film", source, stop, rate, topic)


def _camera(source: str, stop: threading.Event) -> LiveSource:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # errors are reported by us
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = load("cv2", "video", why="a camera")
    if " ! " in source and not _has_gstreamer(cv2):
        raise StreamError(
            f"the GStreamer pipeline {one_line(source, 80)} needs an OpenCV with GStreamer, and "
            f"OpenCV {cv2.__version__} here was built without it, as every OpenCV from PyPI is; "
            "use the one of the system (apt install python3-opencv, or that of JetPack, in an "
            "environment made with --system-site-packages), or give /dev/video0 or an rtsp:// "
            "address"
        )
    name = f"camera {one_line(without_password(source), 80)}"
    return LiveSource(CAMERA, name, lambda self: _captured(self, cv2, source, stop))


def _has_gstreamer(cv2: Any) -> bool:
    information = [line.split() for line in cv2.getBuildInformation().splitlines()]
    return any(x[:2] == ["GStreamer:", "YES"] for x in information)


def _opened(cv2: Any, source: str) -> Any:
    """Open a camera. Returns None if OpenCV cannot."""
    if "://" in source and " ! " not in source:  # the default timeout is half a minute
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
        limits = [number for name in timeouts for number in (name, _NETWORK_MS)]
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
    else:
        backend = cv2.CAP_GSTREAMER if " ! " in source else cv2.CAP_ANY
        capture = cv2.VideoCapture(int(source) if source.isdigit() else source, backend)
    return capture if capture.isOpened() else None


def _captured(self: LiveSource, cv2: Any, source: str, stop: threading.Event) -> Iterator[Frame]:
    """Read a camera. If it fails, close it and open it again after a pause, for ever."""
    capture: Any = None
    index = n_pauses = 0
    failing_s: float | None = None
    try:
        while not stop.is_set():
            if capture is None:
                with self.calls:
                    capture = _opened(cv2, source)
            if capture is not None:
                with self.calls:
                    good, image = capture.read()
                if stop.is_set():  # perhaps long ago, while the driver hung
                    return
                if good and image is not None and image.size:
                    self.trouble, failing_s, n_pauses = "", None, 0
                    yield Frame(_rgb(image), None, time.time_ns(), f"camera#{index}", index)
                    index += 1
                    continue
                failing_s = failing_s or time.monotonic()
                if time.monotonic() - failing_s < _FAILING_S:
                    stop.wait(0.02)
                    continue
                with self.calls:
                    capture.release()
                capture, failing_s = None, None
            self.trouble = _trouble(cv2, self.name, index)
            stop.wait(_PAUSES_S[min(n_pauses, len(_PAUSES_S) - 1)])
            n_pauses += 1
    finally:
        if capture is not None:
            capture.release()


def _trouble(cv2: Any, name: str, n_frames: int) -> str:
    """Say why a camera gives no frames."""
    if n_frames:
        return f"the {name} delivers no frames; trying again"
    has = "with" if _has_gstreamer(cv2) else "without"
    return (
        f"cannot open the {name}; check that it is connected and not in use; trying again. OpenCV "
        f"{cv2.__version__} was built {has} GStreamer"
    )


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

    def frames(self: LiveSource) -> Iterator[Frame]:
        start, last_ns, due = 0.0, None, 0.0
        decoded, end = iter(stream), object()
        for index in range(1 << 62):
            with self.calls:
                frame: Any = next(decoded, end)
            if frame is end:
                return
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

    return LiveSource(kind, f"{kind} {one_line(source, 80)}", frames)
