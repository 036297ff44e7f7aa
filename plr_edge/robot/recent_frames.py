"""Recent frames: what can be taught after it was answered, and what to ask the operator about."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.stream.base import Frame

_MAX_FRAMES, _MAX_BYTES = 150, 24 << 20  # five seconds of frames
NEWEST_S = 10.0  # age up to which frames are taught by their number from the newest
NAMED_S = 60.0  # age up to which a frame is taught that is named by its stamp or sequence
_MIN_SIMILARITY = 0.6  # cosine between unknown frames of one object; in a film 0.63 to 0.99
_MAX_ASKED = 4
_THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class RecentFrame:
    """A frame that was answered: what teaching it needs, and a thumbnail.

    Attributes:
        sequence: number of the frame since the start.
        encoded: output of the frozen part. Its frame holds a thumbnail instead of the image.
        feature: (D,) float32 feature, computed with the version that answered.
        seen_s: `time.monotonic` when it was answered.
    """

    sequence: int
    encoded: FrozenOutput
    feature: np.ndarray
    seen_s: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, sequence: int, encoded: FrozenOutput, feature: np.ndarray) -> RecentFrame:
        """Keep a frame without its image."""
        frame = encoded.frames[0]
        small = replace(frame, image=thumbnail(frame.image))
        return cls(sequence, replace(encoded, frames=(small,)), feature)

    @property
    def frame(self) -> Frame:
        """The frame, with a thumbnail instead of the image."""
        return self.encoded.frames[0]

    @property
    def n_bytes(self) -> int:
        """Bytes of its arrays."""
        arrays = (self.frame.image, self.encoded.latents, self.encoded.taps, self.feature)
        return sum(array.nbytes for array in arrays)


class RecentFrames:
    """The newest frames, bounded in number and bytes."""

    def __init__(self) -> None:
        """Start empty."""
        self._frames: deque[RecentFrame] = deque(maxlen=_MAX_FRAMES)

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: RecentFrame) -> None:
        """Keep a frame, in place of the oldest ones if there is no space."""
        while self._frames and (len(self._frames) + 1) * frame.n_bytes > _MAX_BYTES:
            self._frames.popleft()
        self._frames.append(frame)

    def newest(self, n: int) -> list[RecentFrame]:
        """Return those of the newest `n` frames that are not too old, the newest last.

        Raises:
            StreamError: all of them are too old to be what the operator sees.
        """
        return _fresh(list(self._frames)[-n:], NEWEST_S, "the newest frame")

    def with_stamp(self, stamp_ns: int) -> list[RecentFrame]:
        """Return the newest frame with a time stamp, if there is one.

        Raises:
            StreamError: it is too old.
        """
        found = [x for x in list(self._frames) if x.frame.stamp_ns == stamp_ns][-1:]
        return _fresh(found, NAMED_S, "that frame")

    def with_sequence(self, sequence: int) -> list[RecentFrame]:
        """Return the frame with a sequence number, if it is kept.

        Raises:
            StreamError: it is too old.
        """
        found = [x for x in list(self._frames) if x.sequence == sequence]
        return _fresh(found, NAMED_S, "that frame")


def _fresh(chosen: list[RecentFrame], limit_s: float, which: str) -> list[RecentFrame]:
    """Leave out frames that are too old.

    Raises:
        StreamError: all of them are.
    """
    now_s = time.monotonic()
    fresh = [each for each in chosen if now_s - each.seen_s <= limit_s]
    if chosen and not fresh:
        raise StreamError(
            f"{which} is {now_s - chosen[-1].seen_s:.0f} s old; frames older than {limit_s:.0f} s "
            "are not taught; check the source, or give images"
        )
    return fresh


class NoveltyDetector:
    """Finds runs of similar unknown frames, to ask the operator what they show.

    Attributes:
        asked: runs that were asked about, by the sequence number of their last frame.
    """

    RUN = 15  # frames

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.asked: dict[int, list[RecentFrame]] = {}
        self._run: list[tuple[RecentFrame, np.ndarray]] = []

    def update(self, frame: RecentFrame, *, unknown: bool) -> bool:
        """Take a frame into account. Return whether it completes a run."""
        unit = frame.feature / max(float(np.linalg.norm(frame.feature)), 1e-9)
        if not unknown or (self._run and float(unit @ self._run[-1][1]) < _MIN_SIMILARITY):
            self._run.clear()
        if not unknown:
            return False
        self._run.append((frame, unit))
        if len(self._run) < self.RUN:
            return False
        self.asked[frame.sequence] = [each for each, _ in self._run]
        self._run.clear()
        while len(self.asked) > _MAX_ASKED:
            del self.asked[next(iter(self.asked))]
        return True

    @classmethod
    def question(cls, last: RecentFrame) -> dict[str, Any]:
        """Return the event that asks the operator about a run, by its last frame."""
        return {
            "sequence": last.sequence,
            "stamp_ns": last.frame.stamp_ns,
            "source": last.frame.source,
            "frames": cls.RUN,
            "thumbnail": f"/asked/{last.sequence}.jpg",
        }


def thumbnail(image: np.ndarray, side: int = _THUMBNAIL) -> np.ndarray:
    """Return a copy of every n-th pixel, so that no side is longer than `side`."""
    step = -(-max(image.shape[:2]) // side)
    return np.array(image[::step, ::step])
