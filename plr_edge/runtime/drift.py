"""Drift: how often frames are unknown, how sure answers are, and how both change in an hour."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from plr_edge.runtime.perception import Seen
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
class Glimpse:
    """A frame that was answered, without its pixels: what teaching it takes, and a thumbnail.

    Attributes:
        sequence: number of the frame since the start.
        frame: with a thumbnail in the place of its image.
        seen: one row.
    """

    sequence: int
    frame: Frame
    seen: Seen

    @classmethod
    def of(cls, sequence: int, frame: Frame, seen: Seen) -> Glimpse:
        """Keep a frame; its image is not."""
        return cls(sequence, replace(frame, image=thumbnail(frame.image)), seen)

    @property
    def n_bytes(self) -> int:
        """Bytes of it."""
        seen = self.seen
        arrays = (self.frame.image, seen.latents, seen.taps, seen.features)
        return sum(array.nbytes for array in arrays)


class Strangers:
    """Runs of unknown frames that look alike: what to ask the operator about."""

    RUN = 15  # frames

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.asked: dict[int, list[Glimpse]] = {}  # by the number of the run's last frame
        self._run: list[tuple[Glimpse, np.ndarray]] = []

    def look(self, glimpse: Glimpse, *, unknown: bool) -> Glimpse | None:
        """Take in a frame; returns it where it completes a run."""
        feature = glimpse.seen.features[0]
        unit = feature / max(float(np.linalg.norm(feature)), 1e-9)
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
