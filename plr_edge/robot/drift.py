"""Drift: how often frames are unknown, how sure answers are, and how both change in an hour."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from plr_edge.runtime.perception import FrozenOutput
from plr_edge.stream.base import Frame

_MINUTES = 60
_FEW_MINUTES = 10  # a slope over fewer says nothing of an hour
_ALIKE = 0.6  # cosine of features of unknown frames that look alike; of a film, 0.63 to 0.99
_MOST_ASKED = 4
_THUMBNAIL = 96  # pixels


@dataclass
class _Minute:
    number: int
    n: int = 0
    n_unknown: int = 0
    confidence: float = 0.0


class Drift:
    """Sums of the last hour, a minute each."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._minutes: deque[_Minute] = deque(maxlen=_MINUTES)

    def add(self, *, unknown: bool, confidence: float, now_s: float) -> None:
        """Count one answer."""
        number = int(now_s // 60)
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
        minute = self._minutes[-1]
        minute.n += 1
        minute.n_unknown += unknown
        minute.confidence += confidence

    @property
    def unknown_ratio(self) -> float | None:
        """Share of unknown frames in the last hour; None before the first frame."""
        minutes = list(self._minutes)
        n = sum(minute.n for minute in minutes)
        return sum(minute.n_unknown for minute in minutes) / n if n else None

    @property
    def unknown_per_hour(self) -> float | None:
        """By how much that share rises in an hour; None in the first ten minutes."""
        return self._slope(lambda minute: minute.n_unknown / minute.n)

    @property
    def confidence_per_hour(self) -> float | None:
        """By how much the mean confidence rises in an hour; None in the first ten minutes."""
        return self._slope(lambda minute: minute.confidence / minute.n)

    def _slope(self, value: Callable[[_Minute], float]) -> float | None:
        """Return the slope of a line through the minutes, each weighing as much as its frames."""
        minutes = list(self._minutes)
        if len(minutes) < _FEW_MINUTES:
            return None
        hours = np.array([minute.number / 60 for minute in minutes])
        weights = np.sqrt([minute.n for minute in minutes])
        slope, _ = np.polyfit(hours - hours[0], [value(m) for m in minutes], 1, w=weights)
        return float(slope)


@dataclass(frozen=True)
class RecentFrame:
    """A frame that was answered, without its pixels: what teaching it takes, and a thumbnail.

    Attributes:
        sequence: number of the frame since the start.
        looked: what the frozen part made of it, and the frame with a thumbnail for its image.
        feature: (D,) float32, of the version of then.
    """

    sequence: int
    looked: FrozenOutput
    feature: np.ndarray

    @classmethod
    def of(cls, sequence: int, looked: FrozenOutput, feature: np.ndarray) -> RecentFrame:
        """Keep a frame; its image is not."""
        small = replace(looked.frames[0], image=thumbnail(looked.frames[0].image))
        return cls(sequence, replace(looked, frames=(small,)), feature)

    @property
    def frame(self) -> Frame:
        """The frame, with a thumbnail for its image."""
        return self.looked.frames[0]

    @property
    def n_bytes(self) -> int:
        """Bytes of it."""
        arrays = (self.frame.image, self.looked.latents, self.looked.taps, self.feature)
        return sum(array.nbytes for array in arrays)


class NoveltyDetector:
    """Runs of unknown frames that look alike: what to ask the operator about."""

    RUN = 15  # frames

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.asked: dict[int, list[RecentFrame]] = {}  # by the number of the run's last frame
        self._run: list[tuple[RecentFrame, np.ndarray]] = []

    def look(self, glimpse: RecentFrame, *, unknown: bool) -> RecentFrame | None:
        """Take in a frame; returns it where it completes a run."""
        unit = glimpse.feature / max(float(np.linalg.norm(glimpse.feature)), 1e-9)
        if not unknown or (self._run and float(unit @ self._run[-1][1]) < _ALIKE):
            self._run.clear()
        if not unknown:
            return None
        self._run.append((glimpse, unit))
        if len(self._run) < self.RUN:
            return None
        run = [each for each, _ in self._run]
        self._run.clear()
        self.asked[glimpse.sequence] = run
        while len(self.asked) > _MOST_ASKED:
            del self.asked[next(iter(self.asked))]
        return glimpse


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return every n-th pixel of an image, so that no side is longer than a thumbnail's: a copy."""
    step = -(-max(image.shape[:2]) // _THUMBNAIL)
    return np.array(image[::step, ::step])
