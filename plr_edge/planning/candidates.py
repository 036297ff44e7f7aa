"""What a board can afford: candidates held against budgets. Arithmetic; no network, no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from plr_edge.config import LearningConfig
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import SEQ_BYTES
from plr_edge.replay.schedule import Level, Schedule, make_schedule
from plr_edge.robot.governor import AIM, CONSOLIDATE_STEPS, Budget, Governor, Reading

SLOWEST_CONSOLIDATION_S = 600.0
MEMORY_AIM = 0.95  # of a limit: beyond it the trainer dies, where other budgets only slow it down


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A bundle that could be exported.

    Attributes:
        input_size: height and width of the input.
        cut: first adaptive block.
        precision: of the frozen part: fp32, fp16 or int8.
        levels: of the adaptive part, the classifier's input last.
        frozen_macs: multiply-adds of the frozen part for one frame.
        saved_bytes: that autograd keeps for one sample entered at level 1.
    """

    input_size: int
    cut: str
    precision: str
    levels: tuple[Level, ...]
    frozen_macs: int
    saved_bytes: int

    @property
    def key(self) -> tuple[int, str, str]:
        """What tells it from other candidates."""
        return self.input_size, self.cut, self.precision

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.input_size} px, {self.cut}, {self.precision}"

    @property
    def adaptive_macs(self) -> int:
        """Multiply-adds of the adaptive part for one frame, without the classifier."""
        return sum(level.macs for level in self.levels[:-1])

    def step_macs(self, batch: int) -> list[int]:
        """Multiply-adds of a training step entered at each level: forward and twice back."""
        return [
            3 * batch * sum(level.macs for level in self.levels[i:])
            for i in range(len(self.levels))
        ]

    def codec(self, bits: int, pool: int | None = None) -> LatentCodec:
        """Return what its latents would be stored by."""
        return LatentCodec(shape=self.levels[0].shape, bits=bits, pool=pool)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a candidate costs on a machine; None is absent.

    Attributes:
        frame_ms: of a frame from image to answer, median.
        frame_p99_ms: the same, 99th percentile.
        frame_mj: of it, above idle.
        step_ms: of a training step entered at each level, median.
        step_mj: of it, above idle.
        trainer_bytes: of data, as `plr-edge run --memory` limits it.
        answer_bytes: resident, of a process that answers.
        measured: whether they were measured, or scaled from another bundle's.
    """

    frame_ms: float
    frame_p99_ms: float
    frame_mj: float | None
    step_ms: tuple[float, ...]
    step_mj: tuple[float, ...] | None
    trainer_bytes: int | None
    answer_bytes: int | None
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be spent.

    Attributes:
        budget: of the board, as the governor keeps it.
        memory_bytes: of the trainer's data; None is no limit.
        frames_per_s: that are to be answered.
        n_cores: of the machine; None where it is not known.
    """

    budget: Budget
    memory_bytes: int | None
    frames_per_s: float
    n_cores: int | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A candidate beside the budgets.

    Attributes:
        candidate: what was judged.
        costs: of it.
        memory_bytes: of the latent memory.
        schedule: of the levels.
        steps_per_s: training steps that the budgets leave.
        step_ms: mean over the schedule.
        step_mj: likewise; None where joules are absent.
        watts: of the board while it answers and does not train; None where absent.
        latents_per_mb: that the latent memory holds.
        broken: the first budget that it breaks, empty where it keeps all.
        accuracy: share of held-out frames, where somebody measured it.
    """

    candidate: Candidate
    costs: Costs
    memory_bytes: int
    schedule: Schedule
    steps_per_s: float
    step_ms: float
    step_mj: float | None
    watts: float | None
    latents_per_mb: float
    broken: str
    accuracy: float | None = None


def judge(candidate: Candidate, costs: Costs, limits: Limits, idle_w: float | None,
          config: LearningConfig, schedule: str = "progressive") -> Judged:  # fmt: skip
    """Hold a candidate against the budgets.

    Args:
        candidate: what to judge.
        costs: of it.
        limits: budgets.
        idle_w: of the machine; None where it is not known.
        config: of learning.
        schedule: of the levels.
    """
    shares = make_schedule(schedule, candidate.levels, costs.step_ms)
    step_ms = _mean(shares, costs.step_ms)
    step_mj = None if costs.step_mj is None else _mean(shares, costs.step_mj)
    watts = None
    if idle_w is not None and costs.frame_mj is not None:
        watts = idle_w + limits.frames_per_s * costs.frame_mj / 1e3
    judged = Judged(
        candidate=candidate, costs=costs, memory_bytes=config.memory_bytes, schedule=shares,
        step_ms=step_ms, step_mj=step_mj, watts=watts,
        steps_per_s=_steps_per_s(costs, shares, limits, watts, step_mj),
        latents_per_mb=1e6 / (candidate.codec(config.bits, config.pool).record_bytes + SEQ_BYTES),
        broken="",
    )  # fmt: skip
    broken = next((text for check in CHECKS if (text := check(judged, limits))), "")
    return replace(judged, broken=broken)


def _steps_per_s(costs: Costs, schedule: Schedule, limits: Limits, watts: float | None,
                 step_mj: float | None) -> float:  # fmt: skip
    """What the governor allows on paper, and what power and processors leave beside perception."""
    duty = limits.budget.duty_share
    busy = limits.frames_per_s * costs.frame_ms / 1e3
    if limits.n_cores is not None:
        duty = max(min(1.0 if duty is None else duty, limits.n_cores - busy), 1e-6)
    on_paper = Governor(Budget(duty_share=duty), schedule, [ms / 1e3 for ms in costs.step_ms])
    rates = [on_paper.decide(Reading()).steps_per_s]
    power_w = limits.budget.power_w
    if power_w is not None and watts is not None and step_mj is not None:
        rates.append(max(0.0, (AIM * power_w - watts) / max(step_mj / 1e3, 1e-9)))
    return min(rates)


def _breaks_deadline(judged: Judged, limits: Limits) -> str:
    p99, limit = judged.costs.frame_p99_ms, limits.budget.deadline_ms
    return "" if limit is None or p99 <= limit else f"deadline: {p99:.0f} ms"


def _breaks_rate(judged: Judged, limits: Limits) -> str:
    share = limits.frames_per_s * judged.costs.frame_ms / 1e3
    if share <= 1:
        return ""
    return f"rate: {limits.frames_per_s / share:.0f} frames/s"


def _breaks_memory(judged: Judged, limits: Limits) -> str:
    needs, limit = judged.costs.trainer_bytes, limits.memory_bytes
    if needs is None or limit is None or needs <= MEMORY_AIM * limit:
        return ""
    return f"memory: {needs / 1e6:.0f} MB"


def _breaks_power(judged: Judged, limits: Limits) -> str:
    watts, limit = judged.watts, limits.budget.power_w
    if watts is None or limit is None or watts <= AIM * limit:
        return ""
    return f"power: {watts:.1f} W"


def _breaks_training(judged: Judged, limits: Limits) -> str:
    minutes = consolidation_s(judged) / 60
    if minutes * 60 <= SLOWEST_CONSOLIDATION_S:
        return ""
    return f"training: {minutes:.0f} min"


CHECKS: tuple[Callable[[Judged, Limits], str], ...] = (
    _breaks_deadline, _breaks_rate, _breaks_memory, _breaks_power, _breaks_training,
)  # fmt: skip


def consolidation_s(judged: Judged) -> float:
    """Return the seconds that training goes on after the last label."""
    return CONSOLIDATE_STEPS / max(judged.steps_per_s, 1e-9)


def _mean(schedule: Schedule, costs: Sequence[float]) -> float:
    return sum(f * c for f, c in zip(schedule.shares, costs, strict=True))
