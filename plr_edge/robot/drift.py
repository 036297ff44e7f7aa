"""Drift: how many frames are unknown, how confident answers are, and how both change in an hour."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_MINUTES = 60
_MIN_MINUTES = 10  # for a slope; over less it says nothing about an hour


@dataclass
class _Minute:
    number: int
    n: int = 0
    n_unknown: int = 0
    confidence: float = 0.0


class Drift:
    """Sums over the last hour, by minute."""

    def __init__(self) -> None:
        """Start without frames."""
        self._minutes: deque[_Minute] = deque(maxlen=_MINUTES)

    def add(self, *, unknown: bool, confidence: float, now_s: float) -> None:
        """Count an answer.

        Args:
            unknown: whether the frame was unknown.
            confidence: confidence of the best class.
            now_s: time of a monotonic clock.
        """
        number = int(now_s // 60)
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
        minute = self._minutes[-1]
        minute.n += 1
        minute.n_unknown += unknown
        minute.confidence += confidence

    @property
    def unknown_ratio(self) -> float | None:
        """Share of unknown frames in the last hour. None before the first frame."""
        minutes = list(self._minutes)
        n = sum(minute.n for minute in minutes)
        return sum(minute.n_unknown for minute in minutes) / n if n else None

    @property
    def unknown_per_hour(self) -> float | None:
        """Change of that share per hour. None in the first ten minutes."""
        return self._slope(lambda minute: minute.n_unknown / minute.n)

    @property
    def confidence_per_hour(self) -> float | None:
        """Change of the mean confidence per hour. None in the first ten minutes."""
        return self._slope(lambda minute: minute.confidence / minute.n)

    def _slope(self, value: Callable[[_Minute], float]) -> float | None:
        """Return the slope of a line through the minutes, weighted by their frames."""
        minutes = list(self._minutes)
        if len(minutes) < _MIN_MINUTES:
            return None
        hours = np.array([minute.number / 60 for minute in minutes])
        weights = np.sqrt([minute.n for minute in minutes])
        slope, _ = np.polyfit(hours - hours[0], [value(m) for m in minutes], 1, w=weights)
        return float(slope)
