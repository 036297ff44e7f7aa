"""Configurations of a bundle, their costs, and which constraints they violate.

Arithmetic only. Knows no network and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from plr_edge.config import LearningConfig
from plr_edge.replay.latent_codec import LatentCodec, make_codec
from plr_edge.replay.latent_memory import SEQ_BYTES
from plr_edge.replay.schedule import Level, Schedule, make_schedule
from plr_edge.robot.governor import AIM, CONSOLIDATE_STEPS, Budget, Governor, Reading
from plr_edge.robot.trainer_memory import MEMORY_AIM

SLOWEST_CONSOLIDATION_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One way to export a backbone.

    Attributes:
        input_size: height and width of the input in pixels.
        cut: name of the first adaptive block.
        precision: precision of the frozen part: fp32, fp16 or int8.
        levels: levels of the adaptive part. The last one is the classifier's input.
        frozen_macs: multiply-adds of the frozen part per frame.
        saved_bytes: bytes that autograd keeps per sample that enters at level 1.
        window_share: share of the places of a map that blocks are trained on.
        latent_axes: what the axes of a latent mean; see `LinearCodec`.
    """

    input_size: int
    cut: str
    precision: str
    levels: tuple[Level, ...]
    frozen_macs: int
    saved_bytes: int
    window_share: float = 1.0
    latent_axes: str = ""

    @property
    def key(self) -> tuple[int, str, str]:
        """Identity among the configurations of one backbone."""
        return self.input_size, self.cut, self.precision

    @property
    def name(self) -> str:
        """Name to display."""
        return f"{self.input_size} px, {self.cut}, {self.precision}"

    @property
    def adaptive_macs(self) -> int:
        """Multiply-adds of the adaptive part per frame, without the classifier."""
        return sum(level.macs for level in self.levels[:-1])

    def step_macs(self, batch: int) -> list[int]:
        """Return the multiply-adds of a training step entered at each level.

        The backward pass counts twice the forward pass.
        """
        blocks = [round(level.macs * self.window_share) for level in self.levels[:-1]]
        macs = [*blocks, self.levels[-1].macs]
        return [3 * batch * sum(macs[i:]) for i in range(len(macs))]

    def codec(self, bits: int, pool: int | None = None) -> LatentCodec:
        """Return the codec that would store its latents."""
        shape = self.levels[0].shape
        return make_codec("linear", shape, bits=bits, pool=pool, axes=self.latent_axes)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs of a configuration on one machine. None means not measured.

    Attributes:
        frame_ms: median time of a frame from image to answer.
        frame_p99_ms: 99th percentile of the same.
        frame_mj: energy of a frame above idle.
        step_ms: median time of a training step entered at each level.
        step_mj: energy of the same above idle.
        trainer_bytes: data of the trainer process, as `plr-edge run --memory-limit` limits it.
        answer_bytes: resident memory of a process that answers.
        measured: whether the costs were measured. Otherwise they are scaled from another bundle.
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
class Constraints:
    """What a configuration must keep to.

    Attributes:
        budget: budget of the board, as the governor keeps it.
        memory_limit_bytes: limit on the trainer's data. None means no limit.
        frames_per_s: rate of frames to answer.
        n_cores: cores of the machine. None if unknown.
    """

    budget: Budget
    memory_limit_bytes: int | None
    frames_per_s: float
    n_cores: int | None = None


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A configuration compared with the constraints.

    Attributes:
        configuration: the configuration that was assessed.
        costs: its costs.
        latent_memory_bytes: size of the latent memory.
        schedule: rehearsal schedule.
        steps_per_s: training steps per second that the constraints leave.
        step_ms: mean time of a step over the schedule.
        step_mj: mean energy of a step over the schedule. None if energy was not measured.
        watts: power of the board while it answers without training. None if not measured.
        latents_per_mb: latents that fit into one megabyte of the latent memory.
        violation: the first constraint that is violated, with the value. Empty if none is.
        accuracy: share of correct answers on held-out frames. None if not measured.
    """

    configuration: Configuration
    costs: Costs
    latent_memory_bytes: int
    schedule: Schedule
    steps_per_s: float
    step_ms: float
    step_mj: float | None
    watts: float | None
    latents_per_mb: float
    violation: str
    accuracy: float | None = None


def assess(configuration: Configuration, costs: Costs, constraints: Constraints,
           idle_w: float | None, config: LearningConfig,
           schedule: str = "progressive") -> Assessment:  # fmt: skip
    """Compare a configuration with the constraints.

    Args:
        configuration: the configuration to assess.
        costs: its costs.
        constraints: what it must keep to.
        idle_w: idle power of the machine. None if unknown.
        config: settings of learning.
        schedule: name of the rehearsal schedule.
    """
    shares = make_schedule(schedule, configuration.levels, costs.step_ms)
    step_ms = _mean(shares, costs.step_ms)
    step_mj = None if costs.step_mj is None else _mean(shares, costs.step_mj)
    watts = None
    if idle_w is not None and costs.frame_mj is not None:
        watts = idle_w + constraints.frames_per_s * costs.frame_mj / 1e3
    record_bytes = configuration.codec(config.bits, config.pool).record_bytes + SEQ_BYTES
    assessment = Assessment(
        configuration=configuration, costs=costs, latent_memory_bytes=config.memory_bytes,
        schedule=shares, step_ms=step_ms, step_mj=step_mj, watts=watts,
        steps_per_s=_steps_per_s(costs, shares, constraints, watts, step_mj),
        latents_per_mb=1e6 / record_bytes, violation="",
    )  # fmt: skip
    violations = (check(assessment, constraints) for check in CHECKS)
    return replace(assessment, violation=next(filter(None, violations), ""))


def _steps_per_s(costs: Costs, schedule: Schedule, constraints: Constraints, watts: float | None,
                 step_mj: float | None) -> float:  # fmt: skip
    """Return the rate that the governor would allow, and that power and cores leave."""
    duty = constraints.budget.duty_share
    busy = constraints.frames_per_s * costs.frame_ms / 1e3
    if constraints.n_cores is not None:
        duty = max(min(1.0 if duty is None else duty, constraints.n_cores - busy), 1e-6)
    governor = Governor(Budget(duty_share=duty), schedule, [ms / 1e3 for ms in costs.step_ms])
    rates = [governor.decide(Reading()).steps_per_s]
    power_w = constraints.budget.power_w
    if power_w is not None and watts is not None and step_mj is not None:
        rates.append(max(0.0, (AIM * power_w - watts) / max(step_mj / 1e3, 1e-9)))
    return min(rates)


def _check_deadline(assessment: Assessment, constraints: Constraints) -> str:
    p99, limit = assessment.costs.frame_p99_ms, constraints.budget.deadline_ms
    return "" if limit is None or p99 <= limit else f"deadline: {p99:.0f} ms"


def _check_rate(assessment: Assessment, constraints: Constraints) -> str:
    share = constraints.frames_per_s * assessment.costs.frame_ms / 1e3
    if share <= 1:
        return ""
    return f"rate: {constraints.frames_per_s / share:.0f} frames/s"


def _check_memory(assessment: Assessment, constraints: Constraints) -> str:
    needs, limit = assessment.costs.trainer_bytes, constraints.memory_limit_bytes
    if needs is None or limit is None or needs <= MEMORY_AIM * limit:
        return ""
    return f"memory: {needs / 1e6:.0f} MB"


def _check_power(assessment: Assessment, constraints: Constraints) -> str:
    watts, limit = assessment.watts, constraints.budget.power_w
    if watts is None or limit is None or watts <= AIM * limit:
        return ""
    return f"power: {watts:.1f} W"


def _check_training(assessment: Assessment, constraints: Constraints) -> str:
    seconds = consolidation_s(assessment)
    return "" if seconds <= SLOWEST_CONSOLIDATION_S else f"training: {seconds / 60:.0f} min"


CHECKS: tuple[Callable[[Assessment, Constraints], str], ...] = (
    _check_deadline, _check_rate, _check_memory, _check_power, _check_training,
)  # fmt: skip


def consolidation_s(assessment: Assessment) -> float:
    """Return for how many seconds training continues after the last label."""
    return CONSOLIDATE_STEPS / max(assessment.steps_per_s, 1e-9)


def _mean(schedule: Schedule, costs: Sequence[float]) -> float:
    return sum(f * c for f, c in zip(schedule.shares, costs, strict=True))
