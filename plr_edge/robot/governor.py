"""Governor: decides how many training steps to do, at which levels. Pure arithmetic.

Training gives way first. An exceeded budget, a missed deadline or a hot board halves its rate at
once. The rate recovers by a tenth per second, more slowly near a limit (additive increase and
multiplicative decrease, as in congestion control). A budget whose reading is missing counts as
exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.replay.schedule import Level, Schedule, macs_from

CONSOLIDATE_STEPS = 400  # training steps after the last label; more gain nothing
AIM = 0.93  # share of a budget that is aimed at
_MARGIN = 0.95  # share of a budget above which training gives way
_NEAR = 0.1  # share of a budget below the aim within which the rate rises more slowly
_HYSTERESIS_C = 5.0
_MAX_STEPS_PER_S = 200.0
_MIN_STEPS_PER_S = 0.05
_FLOOR_SHARE = 0.05  # of a core, which training keeps while programs compete for the processor
_SHIFT = 0.1  # relative change of a share that is too small to tell the trainer


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent. None stands for no limit.

    Attributes:
        power_w: power of the whole board.
        duty_share: share of one core's time for training.
        deadline_ms: latency of a frame, 99th percentile.
        max_temp_c: temperature of the hottest sensor.
    """

    power_w: float | None = None
    duty_share: float | None = None
    deadline_ms: float | None = None
    max_temp_c: float | None = None

    def __post_init__(self) -> None:
        for name in ("power_w", "duty_share", "deadline_ms", "max_temp_c"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was measured since the last decision. None stands for an absent measurement.

    Attributes:
        power_w: mean power of the whole board.
        temp_c: temperature of the hottest sensor.
        latency_ms: 99th percentile over frames. None if no frame came.
        pressure: share of the frames' processing time spent waiting for a processor, 0..1.
        steps_per_s: training steps done per second.
        trainer_cores: processors that the trainer was given.
        others_cores: processors that programs other than this robot's took.
    """

    power_w: float | None = None
    temp_c: float | None = None
    latency_ms: float | None = None
    pressure: float | None = None
    steps_per_s: float = 0.0
    trainer_cores: float | None = None
    others_cores: float | None = None

    @property
    def crowded(self) -> bool:
        """Whether other programs take more of the processor than training does."""
        return self.others_cores is not None and self.others_cores > (self.trainer_cores or 0.0)


@dataclass(frozen=True)
class Decision:
    """How much to train until the next decision.

    Attributes:
        steps_per_s: training steps per second.
        shares: share of the steps per level.
        reason: why, in one line.
        levels_reason: why these levels, in one line. Empty if the user chose them.
        exceeded: whether a limit was exceeded, so that training gave way.
        contended: whether it gave way because programs compete for the processor.
    """

    steps_per_s: float
    shares: tuple[float, ...]
    reason: str
    levels_reason: str = ""
    exceeded: bool = False
    contended: bool = False

    def __str__(self) -> str:
        shares = "/".join(f"{share:.2f}".lstrip("0") for share in self.shares)
        why = f" ({self.levels_reason})" if self.levels_reason else ""
        return f"{self.reason}: {self.steps_per_s:.1f} steps/s, levels {shares}{why}"


class Governor:
    """Decides once a second.

    Attributes:
        budget: the limits.
        schedule: share of the training steps per level, while frames come.
        step_s: seconds of one training step per level, on one core.
        levels_reason: why these levels. Empty if the user chose them.
    """

    def __init__(
        self,
        budget: Budget,
        schedule: Schedule,
        step_s: Sequence[float],
        levels_reason: str = "",
    ) -> None:
        """Start at the rate that the budget allows by these costs.

        Args:
            budget: the limits.
            schedule: share of the training steps per level, while frames come.
            step_s: seconds of one training step per level, on one core.
            levels_reason: why these levels. Empty if the user chose them.
        """
        self.budget, self.schedule, self.levels_reason = budget, schedule, levels_reason
        self.step_s = tuple(step_s)
        self._cycle: tuple[Schedule, str] | None = None
        self._rate = self.ceiling

    def consolidate(self, schedule: Schedule, reason: str) -> None:
        """Spend the same share of a core on a cycle from now on.

        Args:
            schedule: share of its steps per level.
            reason: why these levels.
        """
        self._enter((schedule, reason))

    def end_cycle(self) -> None:
        """Go on as before the cycle."""
        self._enter(None)

    def _enter(self, cycle: tuple[Schedule, str] | None) -> None:
        share = self.core_share
        self._cycle = cycle
        self._rate = min(share / max(self._mean_step_s(), 1e-9), self.ceiling)

    @property
    def core_share(self) -> float:
        """Share of a core that the budgets leave to training now."""
        return self._rate * self._mean_step_s()

    @property
    def _now(self) -> tuple[Schedule, str]:
        return self._cycle or (self.schedule, self.levels_reason)

    def observe_costs(self, step_s: Sequence[float | None]) -> None:
        """Update the costs of a step with measurements. The schedule `measured` follows them.

        Args:
            step_s: measured seconds of one step per level. None for a level without a step, whose
                cost is then scaled like those of the others.
        """
        pairs = [(m, s) for m, s in zip(step_s, self.step_s, strict=True) if m]
        if not pairs:
            return
        scale = sum(m for m, _ in pairs) / max(sum(s for _, s in pairs), 1e-9)
        self.step_s = tuple(m or s * scale for m, s in zip(step_s, self.step_s, strict=True))
        if self.schedule.name == "measured":
            rates = [1.0 / s for s in self.step_s]
            shares = tuple(rate / sum(rates) for rate in rates)
            now = self.schedule.shares
            if any(abs(a - b) > _SHIFT * b for a, b in zip(shares, now, strict=True)):
                self.schedule = Schedule(name="measured", shares=shares)

    def decide(self, reading: Reading, dt_s: float = 1.0) -> Decision:
        """Decide how much to train until the next decision.

        Args:
            reading: what was measured since the last decision.
            dt_s: seconds since then.
        """
        ceiling = self.ceiling
        exceeded, contended = self._exceeded(reading)
        if exceeded:
            done = min(self._rate, reading.steps_per_s or self._rate)
            least = self.floor if contended else _MIN_STEPS_PER_S
            self._rate = max(done * 0.5 ** max(dt_s, 0.1), least)
        else:
            rise = 0.1 * ceiling * dt_s * self._headroom(reading)
            self._rate = min(max(self._rate, _MIN_STEPS_PER_S) + rise, ceiling)
        reason = exceeded or self._limit_name()
        hot, limit = reading.temp_c, self.budget.max_temp_c
        if hot is not None and limit is not None and hot > limit + _HYSTERESIS_C:
            self._rate, reason = 0.0, f"{hot:.0f} C, limit {limit:.0f} C"
        schedule, why = self._now
        return Decision(
            self._rate, schedule.shares, reason, why, exceeded=bool(exceeded), contended=contended
        )

    @property
    def floor(self) -> float:
        """Steps per second that training keeps while programs compete for the processor."""
        share = min(_FLOOR_SHARE, self.budget.duty_share or _FLOOR_SHARE)
        return min(max(share / max(self._mean_step_s(), 1e-9), _MIN_STEPS_PER_S), self.ceiling)

    @property
    def ceiling(self) -> float:
        """Steps per second that the budget allows where nothing else limits training."""
        share = 1.0 if self.budget.duty_share is None else self.budget.duty_share
        mean_step_s = self._mean_step_s()
        return min(_MAX_STEPS_PER_S, share / mean_step_s) if mean_step_s > 0 else _MAX_STEPS_PER_S

    def _mean_step_s(self) -> float:
        return sum(f * s for f, s in zip(self._now[0].shares, self.step_s, strict=True))

    def _limit_name(self) -> str:
        budget = self.budget
        if budget.duty_share is not None:
            return f"at a duty of {budget.duty_share:.0%}"
        return f"at {budget.power_w:g} W" if budget.power_w is not None else "no budget"

    def _readings(self, reading: Reading) -> list[tuple[float | None, float, str]]:
        """Return value, limit and unit of each reading that has a limit."""
        budget = self.budget
        pairs = [
            (reading.power_w, budget.power_w, "W"),
            (reading.temp_c, budget.max_temp_c, "C"),
            (reading.latency_ms, budget.deadline_ms, "ms"),
        ]
        return [(value, limit, unit) for value, limit, unit in pairs if limit is not None]

    def _headroom(self, reading: Reading) -> float:
        """Return 1 far below every limit, less near one, and 0 at the aim."""
        rooms = [
            (AIM * limit - value) / (_NEAR * limit)
            for value, limit, _ in self._readings(reading)
            if value is not None
        ]
        return max(0.0, min([1.0, *rooms]))

    def _exceeded(self, reading: Reading) -> tuple[str, bool]:
        """Return which limit is exceeded, and whether programs compete for the processor.

        Then less training helps the frames little, so that it keeps a floor.
        """
        for value, limit, unit in self._readings(reading):
            if value is None and unit != "ms":  # without frames there is no latency
                return f"nothing to read for the limit of {limit:g} {unit}", False
            if value is not None and value > _MARGIN * limit:
                late = unit == "ms" and reading.crowded
                return f"{value:.1f} {unit} of {limit:g} {unit}", late
        if reading.pressure is not None and reading.pressure > 0.5:
            share = f"{reading.pressure:.0%}"
            return f"frames waited for a processor in {share} of their time", True
        return "", False


def with_initial_costs(config: LearningConfig, levels: Sequence[Level]) -> LearningConfig:
    """Let the schedule `measured` start from multiply-adds, until the governor has measured."""
    if config.schedule != "measured" or config.step_costs is not None:
        return config
    return replace(config, step_costs=tuple(macs + 1.0 for macs in macs_from(levels)))
