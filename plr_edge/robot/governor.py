"""Governor: from budgets and readings to how many training steps, at which levels. Pure arithmetic.

Training gives way first: a budget that is exceeded, a deadline that is missed or a board that is
hot halves the rate at once; it comes back by a tenth a second (additive increase, multiplicative
decrease, as congestion control does it), the slower the nearer it is to a limit. A budget whose
reading is gone counts as exceeded: what cannot be seen cannot be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plr_edge.errors import ConfigError
from plr_edge.replay.schedule import Schedule

AIM = 0.93  # of a budget
_MARGIN = 0.95  # of a budget, beyond which training gives way
_NEAR = 0.1  # of a budget: nearer to the aim than this, the rate rises more slowly
_HYSTERESIS_C = 5.0
_MOST_STEPS_PER_S = 200.0
_LEAST_STEPS_PER_S = 0.05
_SHIFT = 0.1  # of a share: less is not worth telling the trainer


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent; None is no limit.

    Attributes:
        power_w: of the whole board.
        duty_share: of one core's time, for training.
        deadline_ms: of a frame, 99th percentile.
        max_temp_c: of the hottest sensor.
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
    """What was measured since the last decision; None is absent.

    Attributes:
        power_w: mean of the whole board.
        temp_c: of the hottest sensor.
        latency_ms: 99th percentile over frames; None where no frame came.
        pressure: of the time in which frames were worked on, the share that was spent waiting for
            a processor, 0..1.
        steps_per_s: training steps done.
    """

    power_w: float | None = None
    temp_c: float | None = None
    latency_ms: float | None = None
    pressure: float | None = None
    steps_per_s: float = 0.0


@dataclass(frozen=True)
class Decision:
    """How much to train from here on, and why."""

    steps_per_s: float
    shares: tuple[float, ...]
    reason: str

    def __str__(self) -> str:
        shares = "/".join(f"{share:.2f}".lstrip("0") for share in self.shares)
        return f"{self.reason}: {self.steps_per_s:.1f} steps/s, levels {shares}"


class Governor:
    """Decide once a second."""

    def __init__(self, budget: Budget, schedule: Schedule, step_s: Sequence[float]) -> None:
        """Start at what the budget allows on paper.

        Args:
            budget: limits.
            schedule: shares of the levels.
            step_s: seconds of one training step at each level, on one core.
        """
        self.budget, self.schedule = budget, schedule
        self.step_s = tuple(step_s)
        self._rate = self._ceiling()

    def observe_costs(self, step_s: Sequence[float | None]) -> None:
        """Take over the cost of a step at each level as it was measured; None where none was done.

        Levels without a measurement are scaled like those with one. The schedule `measured` then
        follows its costs.
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
        """Return the rate for the time to come."""
        ceiling = self._ceiling()
        reason = self._exceeded(reading)
        if reason:
            done = min(self._rate, reading.steps_per_s or self._rate)
            self._rate = max(done * 0.5 ** max(dt_s, 0.1), _LEAST_STEPS_PER_S)
        else:
            reason = self._limit_name()
            rise = 0.1 * ceiling * dt_s * self._headroom(reading)
            self._rate = min(max(self._rate, _LEAST_STEPS_PER_S) + rise, ceiling)
        hot, limit = reading.temp_c, self.budget.max_temp_c
        if hot is not None and limit is not None and hot > limit + _HYSTERESIS_C:
            self._rate, reason = 0.0, f"{hot:.0f} C, limit {limit:.0f} C"
        return Decision(self._rate, self.schedule.shares, reason)

    def _ceiling(self) -> float:
        share = 1.0 if self.budget.duty_share is None else self.budget.duty_share
        mean_step_s = self._mean_step_s()
        return min(_MOST_STEPS_PER_S, share / mean_step_s) if mean_step_s > 0 else _MOST_STEPS_PER_S

    def _mean_step_s(self) -> float:
        return sum(f * s for f, s in zip(self.schedule.shares, self.step_s, strict=True))

    def _limit_name(self) -> str:
        budget = self.budget
        if budget.duty_share is not None:
            return f"at a duty of {budget.duty_share:.0%}"
        return f"at {budget.power_w:g} W" if budget.power_w is not None else "no budget"

    def _readings(self, reading: Reading) -> list[tuple[float | None, float, str]]:
        """Pair what was read with its limit, for the limits that there are."""
        budget = self.budget
        pairs = [
            (reading.power_w, budget.power_w, "W"),
            (reading.temp_c, budget.max_temp_c, "C"),
            (reading.latency_ms, budget.deadline_ms, "ms"),
        ]
        return [(value, limit, unit) for value, limit, unit in pairs if limit is not None]

    def _headroom(self, reading: Reading) -> float:
        """Return 1 far below every limit, and less near one, down to 0 where it is aimed at."""
        rooms = [
            (AIM * limit - value) / (_NEAR * limit)
            for value, limit, _ in self._readings(reading)
            if value is not None
        ]
        return max(0.0, min([1.0, *rooms]))

    def _exceeded(self, reading: Reading) -> str:
        for value, limit, unit in self._readings(reading):
            if value is None and unit != "ms":  # no frames, no latency; power and heat never rest
                return f"nothing to read beside the limit of {limit:g} {unit}"
            if value is not None and value > _MARGIN * limit:
                return f"{value:.1f} {unit} of {limit:g} {unit}"
        if reading.pressure is not None and reading.pressure > 0.5:
            return f"frames waited for a processor in {reading.pressure:.0%} of their time"
        return ""
