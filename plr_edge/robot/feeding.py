"""Feeder: keeps a source delivering frames. One that fails is opened again, for ever.

A driver that hangs cannot be interrupted. Its thread is left behind, and the source is opened again
on another one.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from plr_edge.errors import PlrEdgeError
from plr_edge.stream.addresses import without_password
from plr_edge.stream.base import Frame, one_line
from plr_edge.stream.live_source import CAMERA, LiveSource
from plr_edge.stream.watched import DriverCalls

_log = logging.getLogger(__name__)
_HUNG_S = 20.0  # a call of a driver that takes so long hangs
_MAX_HUNG = 5  # threads left behind, before one of them must return
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_BLIND_S = 3.0
_USUAL = 3.0  # a frame is missing after so many times the longest of the last intervals
_MAX_BLIND_S = 30.0
_STILL_S = 60.0  # the same picture for so long is no picture: the noise of a sensor changes it
_LOOK_EVERY_S, _EVERY_PIXEL = 1.0, 4
_FIRST_S = 2.0  # that a start waits for the first attempt to open a source

OpenSource = Callable[[threading.Event], LiveSource]


class Sight:
    """How long ago the newest frame came, and whether that is too long."""

    def __init__(self) -> None:
        """Start without a frame."""
        self._newest_s: float | None = None
        self._intervals: deque[float] = deque(maxlen=10)

    def saw(self, now_s: float) -> None:
        """Take a frame into account."""
        if self._newest_s is not None:
            self._intervals.append(now_s - self._newest_s)
        self._newest_s = now_s

    def age_s(self, now_s: float) -> float | None:
        """Return the age of the newest frame. None before the first."""
        return None if self._newest_s is None else max(0.0, now_s - self._newest_s)

    def silent_s(self, now_s: float, since_s: float) -> float:
        """Return seconds without a frame, given since when they are expected."""
        age_s = self.age_s(now_s)
        return now_s - since_s if age_s is None else age_s

    def is_blind(self, now_s: float, since_s: float) -> bool:
        """Return whether a frame is missing.

        Args:
            now_s: `time.monotonic`.
            since_s: since when frames are expected.
        """
        longest_s = max(list(self._intervals), default=0.0)
        limit_s = max(_BLIND_S, min(_USUAL * longest_s, _MAX_BLIND_S))
        return self.silent_s(now_s, since_s) > limit_s


class Stillness:
    """For how long a camera has delivered the same picture. One that is frozen does so for ever."""

    def __init__(self) -> None:
        """Start without a picture."""
        self._digest, self._since_s, self._looked_s = -1, 0.0, -_LOOK_EVERY_S

    def saw(self, image: np.ndarray, now_s: float) -> None:
        """Compare a picture with the last one, once a second."""
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        digest = zlib.crc32(np.ascontiguousarray(image[::_EVERY_PIXEL, ::_EVERY_PIXEL]).data)
        if digest != self._digest:
            self._digest, self._since_s = digest, now_s

    def trouble(self, name: str) -> str:
        """Return what is wrong with the source of this name. Empty if nothing is."""
        still_s = self._looked_s - self._since_s
        if still_s < _STILL_S:
            return ""
        return f"the {name} has delivered the same picture for {still_s:.0f} s; is it frozen?"


class Feeder:
    """Reads a source on a thread of its own, and hands its frames over.

    Attributes:
        kind: type of the source.
        sight: when frames came.
        stillness: for how long a camera has shown the same.
    """

    def __init__(self, put: Callable[[Frame], None]) -> None:
        """Read nothing yet.

        Args:
            put: takes the newest frame, on any thread.
        """
        self.kind, self.sight, self.stillness = "stream", Sight(), Stillness()
        self._unusable, self._unusable_s = "", 0.0  # why frames cannot be answered, and since when
        self._put = put
        self._open: OpenSource | None = None
        self._reading = _Reading(self._take)
        self._hang = ""  # trouble of a thread that was left behind, until another one delivers
        self._hung: list[threading.Thread] = []
        self._n_hangs, self._again_s, self._began_s = 0, 0.0, 0.0

    def start(self, open_source: OpenSource) -> None:
        """Read a source until `stop`. Whatever fails is tried again.

        The first attempt to open it is waited for a moment, so that the user hears at once of what
        stays wrong.

        Args:
            open_source: opens it. The event that it is given ends the source.

        Raises:
            PlrEdgeError: the source cannot be opened, nor later.
        """
        self._began_s = time.monotonic()
        self._reading.start(open_source)
        self._reading.tried.wait(_FIRST_S)
        if (error := self._reading.error) is not None and not error.can_pass:
            self._reading.leave.set()
            raise error
        self._open = open_source

    def stop(self) -> None:
        """Ask the source to end. A thread whose driver hangs is left behind."""
        self._open = None
        self._reading.leave.set()

    def read(self, source: Iterable[Frame]) -> None:
        """Read a source once, to its end, on this thread."""
        self._reading.use(source)
        self.kind = getattr(source, "kind", "stream")
        self._reading.read(None)

    def trouble(self, now_s: float) -> str:
        """Return why no frames come. Empty if they do, or need not."""
        reading = self._reading
        source = reading.source
        reason = self._hang or reading.trouble or getattr(source, "trouble", "")
        if not reason and self._unusable and now_s - self._unusable_s > _BLIND_S:
            reason = f"frames of the {reading.name} cannot be answered ({self._unusable})"
        if reason or self._open is None or getattr(source, "may_be_silent", True):
            return reason
        blind = self.sight.is_blind(now_s, self._began_s)
        return f"no frames come from the {source.name}" if blind else ""

    def still(self) -> str:
        """Return that a camera has shown the same for long. Empty if it has not."""
        return self.stillness.trouble(self._reading.name)

    def answered(self, why_not: str = "") -> None:
        """Take in that a frame was answered, or why it was not."""
        if why_not and not self._unusable:
            self._unusable_s = time.monotonic()
        self._unusable = why_not

    def check(self, now_s: float) -> None:
        """Leave a thread behind whose driver hangs, and open the source on another one.

        Call it about once a second.
        """
        if self._open is None:
            return
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if self._reading.is_left:
            if now_s >= self._again_s and len(self._hung) < _MAX_HUNG:
                self._reading = _Reading(self._take)
                self._reading.start(self._open)
        elif self._reading.hangs(now_s):
            self._hang = f"the {self._reading.name} hangs in its driver; opening it again"
            _log.warning("%s", self._hang)
            self._hung.append(self._reading.left_behind())
            self._again_s = now_s + _PAUSES_S[min(self._n_hangs, len(_PAUSES_S) - 1)]
            self._n_hangs += 1

    def _take(self, frame: Frame, kind: str) -> None:
        self._hang, self._n_hangs, self.kind = "", 0, kind
        if kind == CAMERA:
            self.stillness.saw(frame.image, time.monotonic())
        self._put(frame)


class _Reading:
    """Opens and reads a source, until it must leave.

    Attributes:
        leave: ends it.
        source: what is read. None until it is open, or if it has failed.
        trouble: why no frames come. Empty if they do.
        is_left: whether its thread was left behind.
        tried: set after the first attempt to open the source.
        error: why that attempt failed.
    """

    def __init__(self, take: Callable[[Frame, str], None]) -> None:
        self.leave = threading.Event()
        self.source: Any = None
        self.trouble, self.name, self.is_left = "", "source", False
        self.tried = threading.Event()
        self.error: PlrEdgeError | None = None
        self._take = take
        self._opening = DriverCalls()
        self._thread: threading.Thread | None = None
        self._n_failures = 0

    def use(self, source: Any) -> None:
        """Read a source that is open."""
        self.name = getattr(source, "name", "source")
        self.source = source

    def start(self, open_source: OpenSource) -> None:
        """Read on a thread of its own."""
        self._thread = threading.Thread(
            target=self.read, args=(open_source,), name="source", daemon=True
        )
        self._thread.start()

    def hangs(self, now_s: float) -> bool:
        """Return whether the driver or the file system has not returned for long."""
        calls = getattr(self.source, "calls", self._opening)
        since_s = calls.since_s
        return since_s is not None and now_s - since_s > _HUNG_S

    def left_behind(self) -> threading.Thread:
        """Give up this thread, and return it."""
        assert self._thread is not None
        self.is_left = True
        self.leave.set()
        return self._thread

    def read(self, open_source: OpenSource | None) -> None:
        """Read the source to its end, and open it again whenever it fails.

        Args:
            open_source: opens it. None reads what is open, once.
        """
        while not self.leave.is_set():
            try:
                if self.source is None and open_source is not None:
                    with self._opening:
                        self.use(open_source(self.leave))
                    self.trouble = ""
                    self.tried.set()
                if self._read_once():
                    return
            except Exception as error:  # a driver may raise anything; answering goes on
                self._fail(error)
            self.source = None
            if open_source is None:
                return
            self.leave.wait(_PAUSES_S[min(self._n_failures, len(_PAUSES_S)) - 1])

    def _read_once(self) -> bool:
        """Hand frames over. Return whether no more will ever come."""
        kind = getattr(self.source, "kind", "stream")
        for frame in self.source:
            if self.leave.is_set():
                return True
            self.trouble, self._n_failures = "", 0
            self._take(frame, kind)
        if not self.leave.is_set():
            self.trouble = f"the {self.name} has ended; no more frames come"
            _log.warning("%s", self.trouble)
        return True

    def _fail(self, error: Exception) -> None:
        self._n_failures += 1
        known = isinstance(error, PlrEdgeError)
        if isinstance(error, PlrEdgeError) and not self.tried.is_set():
            self.error = error
        text = without_password(one_line(error))
        self.trouble = f"{text if known else f'the {self.name} failed: {text}'}; trying again"
        if self._n_failures == 1:
            _log.warning("%s", self.trouble, exc_info=None if known else error)
        self.tried.set()
