"""GovernorLoop: measures once a second, lets the governor decide, and tells the trainer."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from plr_edge.errors import StateError
from plr_edge.meters import cpu_quota
from plr_edge.robot.consolidating import Consolidation
from plr_edge.robot.governor import Decision, Governor, Reading
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.sensors import Sensors
from plr_edge.robot.starvation import Starvation
from plr_edge.robot.status import FrameStats
from plr_edge.robot.step_costs import TrainingPower, level_costs

_log = logging.getLogger(__name__)
_QUOTA_MARGIN, _MIN_SHARE = 0.65, 0.02
_MAX_ROWS = 600
_UNLIMITED = 1e6  # steps/s
_BUSY_PRESSURE, _BUSY_SHARE = 0.1, 0.5  # of the frames' time, of the processors: not idle


@dataclass
class Timeline:
    """Decisions and measurements over time. It is thinned out as it grows.

    Attributes:
        rows: samples, oldest first.
        every_s: sampling interval.
    """

    rows: list[dict[str, float | str | None]] = field(default_factory=list)
    every_s: float = 1.0
    _last_s: float = -1e9

    def add(self, now_s: float, row: dict[str, float | str | None]) -> None:
        """Keep a row if it is time."""
        if now_s - self._last_s < self.every_s - 0.5:
            return
        self._last_s = now_s
        self.rows.append(row)
        if len(self.rows) >= _MAX_ROWS:
            self.rows, self.every_s = self.rows[::2], 2 * self.every_s


class GovernorLoop:
    """Keeps the budgets, and remembers what was decided.

    Attributes:
        model: what is trained.
        governor: decides.
        sensors: measure the board.
        stats: measure the frames.
        consolidation: trains the blocks when there is time.
        starvation: notices that other programs leave training no processor.
        decision: the newest decision. None before the first.
        frames_per_s: rate of answered frames.
        paused: whether training is paused.
        timeline: decisions and measurements since the start.
        state_bytes: size of the state on disk.
        written_bytes: bytes written to it in 24 hours.
    """

    def __init__(
        self,
        model: OnlineModel,
        governor: Governor,
        sensors: Sensors,
        stats: FrameStats,
    ) -> None:
        """Decide nothing yet."""
        self.model, self.governor, self.sensors, self.stats = model, governor, sensors, stats
        self.consolidation = Consolidation(model, governor)
        self.n_cores = os.cpu_count() or 1
        self.starvation, self._power = Starvation(self.n_cores), TrainingPower()
        sensors.trainer_pid = lambda: child.pid if (child := model.trainer.process.child) else None
        self.decision: Decision | None = None
        self.frames_per_s = 0.0
        self.paused = False
        self.timeline = Timeline()
        self.state_bytes = self.written_bytes = 0
        self._quota, self._cpu_s = cpu_quota(), time.process_time()
        self._began = self._last = time.monotonic()
        self._n_frames = self._n_steps = 0

    def tick(self) -> None:
        """Measure and decide. Call it once a second."""
        now = time.monotonic()
        passed = max(now - self._last, 1e-3)
        n_frames, n_steps = self.stats.n_frames, sum(self.model.trainer.n_steps)
        self.frames_per_s = (n_frames - self._n_frames) / passed
        steps_per_s = (n_steps - self._n_steps) / passed
        reading = self._reading(steps_per_s)
        self._decide(reading, passed)
        charging = bool(self.sensors.now.charging)
        self.consolidation.tick(busy=self._is_busy(reading), charging=charging)
        self.update_trainer()
        self._quota = cpu_quota()
        if self._quota is not None:
            self._share_quota(passed)
        with suppress(OSError, StateError):  # a file that was just replaced, a disk that refuses
            store = self.model.store
            self.state_bytes, self.written_bytes = store.n_bytes, store.written_today
        self._remember(now - self._began, steps_per_s)
        self._last, self._n_frames, self._n_steps = now, n_frames, n_steps

    def update_trainer(self) -> None:
        """Tell the trainer what it may do."""
        rate = self.decision.steps_per_s if self.decision else _UNLIMITED
        schedule = self.governor.schedule
        self.model.trainer.set_budget(
            0.0 if self.paused else rate,
            paused=self.paused,
            name=schedule.name,
            shares=list(schedule.shares),
        )

    @property
    def to_train(self) -> bool:
        """Whether there is something to train, and it may be trained."""
        trainer = self.model.trainer
        left = bool(trainer.report.get("to_go")) or self.consolidation.running
        return left and trainer.process.alive and not self.paused

    def level_costs(self) -> list[dict[str, Any]]:
        """Return what a step costs at each level, and what a cycle there is worth."""
        one, governor, levels = self.consolidation, self.governor, self.model.bundle.levels
        shares = self.decision.shares if self.decision else governor.schedule.shares
        needed = one.needs.by_level if one.needs is not None else None
        names = [level.name for level in levels]
        watts, gains = self._power.watts, one.worth.gains
        return level_costs(names, shares, governor.step_s, watts, needed, gains)

    def _reading(self, steps_per_s: float) -> Reading:
        sensed = self.sensors.now
        return Reading(
            power_w=sensed.power_w,
            temp_c=max(sensed.temps_c.values(), default=None),
            # without frames the old ones say nothing: there is time to consolidate
            latency_ms=self.stats.percentile_ms(0.99) if self.frames_per_s else None,
            pressure=sensed.pressure if self.frames_per_s else None,
            steps_per_s=max(0.0, steps_per_s),
            trainer_cores=sensed.trainer_cores,
            others_cores=sensed.others_cores,
        )

    def _decide(self, reading: Reading, passed_s: float) -> None:
        trainer, governor = self.model.trainer, self.governor
        pairs = zip(trainer.steps_s, trainer.n_steps, strict=True)
        self._power.add(reading.power_w, reading.trainer_cores)
        governor.observe_costs([s / n if n else None for s, n in pairs])
        before, self.decision = self.decision, governor.decide(reading, passed_s)
        self.starvation.add(reading, self.decision, governor, passed_s, wanted=self.to_train)
        if before is None or before.reason.split()[0] != self.decision.reason.split()[0]:
            _log.info("%s", self.decision)

    def _is_busy(self, reading: Reading) -> bool:
        """Return whether frames or other programs need the machine."""
        assert self.decision is not None
        crowd = (reading.others_cores or 0.0) > _BUSY_SHARE * self.n_cores
        return self.decision.exceeded or crowd or (reading.pressure or 0.0) > _BUSY_PRESSURE

    def _share_quota(self, passed_s: float) -> None:
        """Give the trainer what perception leaves of the cgroup's quota."""
        assert self._quota is not None
        used_s, self._cpu_s = time.process_time() - self._cpu_s, time.process_time()
        left = _QUOTA_MARGIN * self._quota - used_s / passed_s
        share = min(max(left, _MIN_SHARE), 1.0)
        self.model.workers.share = share
        self.model.trainer.process.limit(share)

    def _remember(self, at_s: float, steps_per_s: float) -> None:
        sensed, decision = self.sensors.now, self.decision
        assert decision is not None
        row: dict[str, float | str | None] = {
            "at_s": round(at_s, 1),
            "frames_per_s": round(self.frames_per_s, 2),
            "latency_ms_p99": self.stats.percentile_ms(0.99),
            "steps_per_s": round(steps_per_s, 2),
            "allowed_steps_per_s": round(decision.steps_per_s, 2),
            "decision": str(decision),
            "version": self.model.learned.version,
            "power_w": sensed.power_w,
            "temp_c": max(sensed.temps_c.values(), default=None),
            "rss_bytes": sensed.memory_bytes.get("rss"),
        }
        self.timeline.add(at_s, row)
