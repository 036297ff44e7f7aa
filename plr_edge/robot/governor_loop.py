"""Overseer: once a second, from what was measured to how much the trainer may do."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field

from plr_edge.errors import StateError
from plr_edge.meters import cpu_quota
from plr_edge.robot.counts import FrameStats
from plr_edge.robot.governor import Decision, Governor, Reading
from plr_edge.robot.live import Live
from plr_edge.robot.sensors import Sensors

_log = logging.getLogger(__name__)
_QUOTA_MARGIN, _LEAST_SHARE = 0.65, 0.02
_LONGEST_RECORD = 600


@dataclass
class Record:
    """How decisions and figures went over time, thinned out as it grows.

    Attributes:
        rows: of figures, oldest first, so many seconds apart.
        every_s: so many.
    """

    rows: list[dict[str, float | str | None]] = field(default_factory=list)
    every_s: float = 1.0
    _last_s: float = -1e9

    def add(self, now_s: float, row: dict[str, float | str | None]) -> None:
        """Keep a row, if it is time."""
        if now_s - self._last_s < self.every_s - 0.5:
            return
        self._last_s = now_s
        self.rows.append(row)
        if len(self.rows) >= _LONGEST_RECORD:
            self.rows, self.every_s = self.rows[::2], 2 * self.every_s


class GovernorLoop:
    """Keep the budgets, and remember what was decided."""

    def __init__(
        self, live: Live, governor: Governor, sensors: Sensors, counts: FrameStats
    ) -> None:
        """Decide nothing yet."""
        self.live, self.governor, self.sensors, self.counts = live, governor, sensors, counts
        self.decision: Decision | None = None
        self.frames_per_s = 0.0
        self.paused = False
        self.record = Record()
        self.state_bytes = self.written_bytes = 0
        self._quota, self._cpu_s = cpu_quota(), time.process_time()
        self._began = self._last = time.monotonic()
        self._n_frames = self._n_steps = 0

    def tick(self, n_frames: int) -> None:
        """Decide; `n_frames` were answered since the start."""
        now = time.monotonic()
        passed = max(now - self._last, 1e-3)
        n_steps = sum(self.live.n_steps)
        self.frames_per_s = (n_frames - self._n_frames) / passed
        steps_per_s = (n_steps - self._n_steps) / passed
        self._decide(passed, steps_per_s)
        self.tell()
        self._quota = cpu_quota()
        if self._quota is not None:
            self._share_quota(passed)
        with suppress(OSError, StateError):  # a file that was just replaced; a disk that refuses
            if store := self.live.store:
                self.state_bytes, self.written_bytes = store.n_bytes, store.written_today
        self._remember(now - self._began, steps_per_s)
        self._last, self._n_frames, self._n_steps = now, n_frames, n_steps

    def tell(self) -> None:
        """Tell the trainer what it may do."""
        rate = self.decision.steps_per_s if self.decision else 1e6
        schedule = self.governor.schedule
        self.live.set_budget(
            0.0 if self.paused else rate, paused=self.paused,
            name=schedule.name, shares=list(schedule.shares),
        )  # fmt: skip

    def _decide(self, passed_s: float, steps_per_s: float) -> None:
        sensed, live = self.sensors.now, self.live
        reading = Reading(
            power_w=sensed.power_w,
            temp_c=max(sensed.temps_c.values(), default=None),
            # old ones say nothing of now: a robot that sees nothing has time to consolidate
            latency_ms=self.counts.percentile_ms(0.99) if self.frames_per_s else None,
            pressure=sensed.pressure if self.frames_per_s else None,
            steps_per_s=max(0.0, steps_per_s),
        )
        pairs = zip(live.steps_s, live.n_steps, strict=True)
        self.governor.observe_costs([s / n if n else None for s, n in pairs])
        before, self.decision = self.decision, self.governor.decide(reading, passed_s)
        if before is None or before.reason.split()[0] != self.decision.reason.split()[0]:
            _log.info("%s", self.decision)

    def _share_quota(self, passed_s: float) -> None:
        """Leave the trainer what the cgroup's quota has left beside perception."""
        assert self._quota is not None
        used_s, self._cpu_s = time.process_time() - self._cpu_s, time.process_time()
        left = _QUOTA_MARGIN * self._quota - used_s / passed_s
        self.live.share = min(max(left, _LEAST_SHARE), 1.0)
        self.live.trainer.limit(self.live.share)

    def _remember(self, at_s: float, steps_per_s: float) -> None:
        sensed, decision = self.sensors.now, self.decision
        assert decision is not None
        self.record.add(at_s, {
            "at_s": round(at_s, 1),
            "frames_per_s": round(self.frames_per_s, 2),
            "latency_ms_p99": self.counts.percentile_ms(0.99),
            "steps_per_s": round(steps_per_s, 2),
            "allowed_steps_per_s": round(decision.steps_per_s, 2),
            "decision": str(decision),
            "version": self.live.version,
            "power_w": sensed.power_w,
            "temp_c": max(sensed.temps_c.values(), default=None),
            "rss_bytes": sensed.memory_bytes.get("rss"),
        })  # fmt: skip
