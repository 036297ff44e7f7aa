"""Sources that never end: a camera, a video at its own rate, a folder that is watched.

Each is an iterator of frames for a thread of its own; what is not taken in time is dropped by the
one who reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import MissingExtraError, StreamError
from plr_edge.stream.bag import is_bag
from plr_edge.stream.base import Frame
from plr_edge.stream.decode import decode_image

_LOOK_EVERY_S = 0.2
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_FAILURES_IN_A_ROW = 50


def open_live(
    source: str, stop: threading.Event, rate: float | None = None, topic: str | None = None
) -> Iterator[Frame]:
    """Open a source that gives frames as they come.

    Args:
        source: a camera (`0`, `/dev/video0`, an rtsp:// address, a GStreamer pipeline), a folder to
            watch, or a stream of `open_stream` played at a rate.
        stop: ends the iteration.
        rate: frames a second of a stream; its stamps, or 30, by default.
        topic: of the images of a ROS bag; may be left out where there is one.

    Raises:
        StreamError: there is no such source.
        MissingExtraError: it needs OpenCV.
    """
    if source.isdigit() or source.startswith(("/dev/video", "rtsp://")) or " ! " in source:
        return _camera(source, stop)
    path = Path(source)
    if not is_bag(path) and path.is_dir() and not any(p.is_dir() for p in path.iterdir()):
        return _watched(path, stop)
    return _played(source, stop, rate, topic)


def _camera(source: str, stop: threading.Event) -> Iterator[Frame]:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError(
            "a camera needs OpenCV; install it with `pip install 'plr-edge[video]'`"
        ) from None
    kind = cv2.CAP_GSTREAMER if " ! " in source else cv2.CAP_ANY
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source, kind)
    if not capture.isOpened():
        has = (
            "with" if "GStreamer:                   YES" in cv2.getBuildInformation() else "without"
        )
        raise StreamError(
            f"cannot open the camera {source[:80]!r}; is it there, and free? OpenCV "
            f"{cv2.__version__} was built {has} GStreamer"
        )
    return _captured(cv2, capture, source, stop)


def _captured(cv2: Any, capture: Any, source: str, stop: threading.Event) -> Iterator[Frame]:
    index = failures = 0
    try:
        while not stop.is_set():
            good, image = capture.read()
            if not good:
                failures += 1
                if failures >= _FAILURES_IN_A_ROW:
                    raise StreamError(f"the camera {source[:80]!r} gives no frames any more")
                time.sleep(0.02)
                continue
            failures = 0
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            yield Frame(rgb, None, time.time_ns(), f"camera#{index}", index)
            index += 1
    finally:
        capture.release()


def _watched(path: Path, stop: threading.Event) -> Iterator[Frame]:
    """Yield images that appear in a folder, once their size no longer changes."""
    known = {file.name: -1 for file in path.iterdir()}
    index = 0
    while not stop.wait(_LOOK_EVERY_S):
        for file in sorted(path.iterdir()):
            if file.suffix.lower() not in _IMAGES or known.get(file.name) == -1:
                continue
            size = file.stat().st_size
            if known.get(file.name) != size:
                known[file.name] = size
                continue
            known[file.name] = -1
            try:
                image = decode_image(file.read_bytes(), str(file))
            except (OSError, StreamError):
                continue
            yield Frame(image, None, time.time_ns(), file.name, index)
            index += 1


def _played(
    source: str, stop: threading.Event, rate: float | None, topic: str | None
) -> Iterator[Frame]:
    from plr_edge.stream import open_stream

    stream = open_stream(source, topic=topic)

    def frames() -> Iterator[Frame]:
        start, last_ns, due = time.monotonic(), None, 0.0
        for index, frame in enumerate(stream):
            if rate is not None or last_ns is None or frame.stamp_ns <= last_ns:
                due += 1.0 / (rate or 30.0) if index else 0.0
            else:
                due += min((frame.stamp_ns - last_ns) / 1e9, 1.0)
            last_ns = frame.stamp_ns
            if stop.wait(max(0.0, start + due - time.monotonic())):
                return
            image = np.ascontiguousarray(frame.image)
            yield Frame(image, None, time.time_ns(), frame.source, index)

    return frames()
