"""What a robot says of itself: its state, and statistics of its frames. Pure, without a clock."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass

STARTING, SERVING, LEARNING, PAUSED = "starting", "serving", "learning", "paused"
DEGRADED, FACTORY, STOPPING = "degraded", "factory fallback", "stopping"
STARVED = "starved"  # of processor time for training; it answers and takes labels as always
STATES = (STARTING, SERVING, LEARNING, STARVED, PAUSED, DEGRADED, FACTORY, STOPPING)

ANSWERED, UNKNOWN, DROPPED, FAILED = "answered", "unknown", "dropped", "failed"
BOUNDS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.066, 0.13, 0.26, 0.52, 1.0)
_RECENT = 300  # answers that percentiles are computed over


@dataclass(frozen=True, kw_only=True)
class RobotStatus:
    """The conditions that decide the state. Troubles are texts, empty if there is none.

    Attributes:
        started: whether the loop answers frames.
        stopping: whether the robot was asked to end.
        source_trouble: why no frames come.
        disk_trouble: why labels are refused.
        other_trouble: what else is wrong, e.g. that nothing can be reached by HTTP.
        trainer_given_up: whether the trainer died too often to be started again.
        factory_trouble: why the exported network answers.
        relearning: which labels are being learned again after a start.
        is_blank: whether nothing that was taught answers.
        paused: whether training is paused.
        to_train: whether there is something left to train.
        starved: figures, if other programs leave training no processor.
        consolidating: how far a cycle of consolidation is, if one is under way.
    """

    started: bool = True
    stopping: bool = False
    source_trouble: str = ""
    disk_trouble: str = ""
    other_trouble: str = ""
    trainer_given_up: bool = False
    factory_trouble: str = ""
    relearning: str = ""
    is_blank: bool = False
    paused: bool = False
    to_train: bool = False
    starved: str = ""
    consolidating: str = ""

    @property
    def serves(self) -> bool:
        """Whether what is seen is answered with what was taught."""
        forgetful = self.factory_trouble or (self.relearning and self.is_blank)
        return self.started and not (self.stopping or self.source_trouble or forgetful)

    @property
    def is_troubled(self) -> bool:
        """Whether an operator should look."""
        texts = (self.source_trouble, self.disk_trouble, self.other_trouble, self.factory_trouble)
        return self.trainer_given_up or any(texts)


def state_of(status: RobotStatus) -> tuple[str, str]:
    """Return the first state that applies, and the reason for it if one is due."""
    if status.stopping:
        return STOPPING, ""
    if not status.started:
        return STARTING, ""
    troubles = [status.source_trouble, status.disk_trouble, status.other_trouble]
    if status.trainer_given_up:
        troubles.append("the trainer keeps crashing; answering without learning")
    if any(troubles):
        return DEGRADED, "; ".join(filter(None, troubles))
    if status.factory_trouble:
        return FACTORY, status.factory_trouble
    if status.relearning:
        return LEARNING, status.relearning
    if status.paused:
        return PAUSED, ""
    if status.starved:
        return STARVED, status.starved
    learning = status.to_train or status.consolidating
    return (LEARNING, status.consolidating) if learning else (SERVING, "")


class FrameStats:
    """Outcomes and latencies of the frames since the start.

    Attributes:
        deadline_ms: age above which an answer is late. None if there is no deadline.
        by: number of frames by kind of source and outcome.
        n_frames: number of frames of the source that were answered.
        in_bounds: number of answers by latency, between `BOUNDS_S`, the slowest last.
        latency_sum_s: sum of the latencies.
        n_late: number of late answers.
    """

    def __init__(self, deadline_ms: float | None = None) -> None:
        """Start at zero."""
        self.deadline_ms = deadline_ms
        self.by: Counter[tuple[str, str]] = Counter()
        self.n_frames = 0
        self.in_bounds = [0] * (len(BOUNDS_S) + 1)
        self.latency_sum_s = 0.0
        self.n_late = 0
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)

    def add(self, kind: str, *, unknown: bool, latency_ms: float, age_ms: float) -> None:
        """Count a frame of the source that was answered."""
        self.n_frames += 1
        self.by[kind, UNKNOWN if unknown else ANSWERED] += 1
        self.in_bounds[bisect_left(BOUNDS_S, latency_ms / 1e3)] += 1
        self.latency_sum_s += latency_ms / 1e3
        self._recent_ms.append(latency_ms)
        self.n_late += self.deadline_ms is not None and age_ms > self.deadline_ms

    def count(self, kind: str, outcome: str) -> None:
        """Count a frame that was not answered, or whose latency is not the robot's."""
        self.by[kind, outcome] += 1

    def total(self, *outcomes: str) -> int:
        """Return the number of frames with one of these outcomes."""
        return sum(n for (_, outcome), n in self.by.copy().items() if outcome in outcomes)

    def percentile_ms(self, share: float) -> float | None:
        """Return the latency below which this share of the recent answers lies."""
        values = sorted(self._recent_ms.copy())
        if not values:
            return None
        return round(values[min(int(share * len(values)), len(values) - 1)], 2)
