"""Counts: frames by source and outcome, and how long they took. Plain numbers, no clock."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque

ANSWERED, UNKNOWN, DROPPED, FAILED = "answered", "unknown", "dropped", "failed"
BOUNDS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.066, 0.13, 0.26, 0.52, 1.0)
_RECENT = 300


class FrameStats:
    """What became of the frames since the start."""

    def __init__(self, deadline_ms: float | None = None) -> None:
        """Count from zero.

        Args:
            deadline_ms: age beyond which an answer came too late.
        """
        self.deadline_ms = deadline_ms
        self.by: Counter[tuple[str, str]] = Counter()  # (kind of source, outcome)
        self.in_bounds = [0] * (len(BOUNDS_S) + 1)  # answers by latency, the slowest last
        self.latency_sum_s = 0.0
        self.n_late = 0
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)

    def saw(self, kind: str, *, unknown: bool, latency_ms: float, age_ms: float) -> None:
        """Count an answer."""
        self.by[kind, UNKNOWN if unknown else ANSWERED] += 1
        self.in_bounds[bisect_left(BOUNDS_S, latency_ms / 1e3)] += 1
        self.latency_sum_s += latency_ms / 1e3
        self._recent_ms.append(latency_ms)
        self.n_late += self.deadline_ms is not None and age_ms > self.deadline_ms

    def count(self, kind: str, outcome: str) -> None:
        """Count a frame that was not answered, or whose latency is not the robot's."""
        self.by[kind, outcome] += 1

    def total(self, *outcomes: str) -> int:
        """Return how many frames of all sources came to these ends."""
        return sum(n for (_, outcome), n in self.by.copy().items() if outcome in outcomes)

    def percentile_ms(self, share: float) -> float | None:
        """Return the latency below which this share of the recent answers lies."""
        values = sorted(self._recent_ms.copy())
        if not values:
            return None
        return round(values[min(int(share * len(values)), len(values) - 1)], 2)
