"""Boards that exist only here: what the governor gives each of them, with the real meters.

    python tests/simulated_boards.py

runs `plr_edge.robot.governor` in closed loop, once a simulated second, against a model of power,
heat and latency. The model writes the board's tree (`fake_boards`); the meters and thermal zones
read it. NOTHING HERE WAS MEASURED ON A BOARD. What the model is made of:

- relative cost of the levels: multiply-adds of a step of 64 on the bundle that `plr-edge export`
  writes (MobileNetV2 cut before block14), forward and backward;
- rate of a board: multiply-adds a second in float32 that its maker states (cores x clock), times
  a share that small batches reach, plus a fixed time for each block that starts;
- watts, seconds of heating and latency: round numbers within the boards' power modes.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from fake_boards import FakeBoard, make_board

from plr_edge.meters import read_temperatures_c
from plr_edge.meters.base import PowerMeter
from plr_edge.meters.hwmon import find_ina3221
from plr_edge.replay.schedule import Level, macs_from, make_schedule
from plr_edge.robot.governor import Budget, Decision, Governor, Reading
from plr_edge.robot.level_choice import WHILE_FRAMES_COME, LevelWorth, steps_within

BATCH = 64
LEVELS = tuple(
    Level(name=name, shape=shape, weights=weights, macs=macs)
    for name, shape, weights, macs in (
        ("block14", (160, 4, 4), 317_920, 5_053_440),
        ("block15", (160, 4, 4), 317_920, 5_053_440),
        ("block16", (160, 4, 4), 471_680, 7_511_040),
        ("head", (320, 4, 4), 410_880, 6_553_600),
        ("classifier", (1280,), 1_281, 1_280),
    )
)
STEP_MACS = [3.0 * BATCH * macs for macs in macs_from(LEVELS)]
EFFICIENCY = 0.3  # of the stated rate; one x86 core (Zen 4) reaches 44 of 118 GMAC/s, measured
TICK_S, SAMPLES = 1.0, 5


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a simulated board takes.

    Attributes:
        macs_per_s: stated by the maker, float32.
        block_s: that a block of a training step takes however small it is.
        rest_w: of the board with nothing to do.
        perception_w: more, at 30 frames/s.
        training_w: more, while a step runs.
        heating_c_per_w: above the air around it, once settled.
        heating_s: time constant.
        frame_ms: 99th percentile without training.
    """

    macs_per_s: float
    block_s: float
    rest_w: float
    perception_w: float
    training_w: float
    heating_c_per_w: float
    heating_s: float
    frame_ms: float

    @property
    def step_s(self) -> tuple[float, ...]:
        """Seconds of one training step entered at each level; backward is twice forward."""
        macs = [sum(level.macs for level in LEVELS[i:]) for i in range(len(LEVELS))]
        return tuple(
            3 * BATCH * m / (EFFICIENCY * self.macs_per_s) + self.block_s * (len(LEVELS) - i)
            for i, m in enumerate(macs)
        )

    @property
    def step_j(self) -> tuple[float, ...]:
        """Joules of one training step entered at each level, beyond what the board takes anyway."""
        return tuple(seconds * self.training_w for seconds in self.step_s)


COSTS = {
    # 512 CUDA cores at 625 MHz
    "orin-nano-4gb": Cost(macs_per_s=0.32e12, block_s=2e-3, rest_w=3.5, perception_w=1.2,
                          training_w=4.0, heating_c_per_w=4.0, heating_s=60, frame_ms=9),
    # 2048 CUDA cores at 1.3 GHz
    "agx-orin": Cost(macs_per_s=2.66e12, block_s=1.2e-3, rest_w=8.0, perception_w=2.5,
                     training_w=14.0, heating_c_per_w=1.2, heating_s=120, frame_ms=4),
    # 2560 CUDA cores at 1.57 GHz
    "agx-thor": Cost(macs_per_s=4.0e12, block_s=0.8e-3, rest_w=25.0, perception_w=5.0,
                     training_w=30.0, heating_c_per_w=0.5, heating_s=120, frame_ms=3),
    # one Cortex-A76 of four at 2.4 GHz, 8 multiply-adds a cycle; it has no power sensor
    "raspberry-pi-5": Cost(macs_per_s=0.077e12, block_s=1e-3, rest_w=3.0, perception_w=2.0,
                           training_w=2.5, heating_c_per_w=7.0, heating_s=90, frame_ms=18),
}  # fmt: skip


@dataclass
class Run:
    """What happened, a value for each simulated second."""

    power_w: list[float] = field(default_factory=list)
    temp_c: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    steps_per_s: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def settled(self, values: list[float], last: int = 120) -> float:
        """Mean over the last seconds."""
        return sum(values[-last:]) / len(values[-last:])

    def __str__(self) -> str:
        decision = self.decisions[-1]
        return str(Decision(self.settled(self.steps_per_s), decision.shares, "got"))


class SimulatedBoard:
    """A board that takes power, grows hot and slows its frames as it trains."""

    def __init__(self, fake: FakeBoard, air_c: float = 25.0) -> None:
        self.fake, self.cost, self.air_c = fake, COSTS[fake.name], air_c
        self.temp_c = air_c + self.cost.heating_c_per_w * self.cost.rest_w
        self.sees = True
        self.now_ns = 0
        found = find_ina3221(fake.sysfs, interval_s=None, clock_ns=lambda: self.now_ns)
        self.meter = found if isinstance(found, PowerMeter) and found.has_total else None

    def second(self, busy_share: float) -> Reading:
        """Let a second pass in which training runs for this share, and read the tree."""
        cost = self.cost
        watts = cost.rest_w + cost.training_w * busy_share + cost.perception_w * self.sees
        settled_c = self.air_c + cost.heating_c_per_w * watts
        self.temp_c += (settled_c - self.temp_c) * (1 - math.exp(-TICK_S / cost.heating_s))
        self.fake.set_temp_c(self.temp_c)
        if self.meter is not None:
            self.fake.set_total_w(watts)
            self.meter.start()
        for _ in range(SAMPLES):
            self.now_ns += round(TICK_S / SAMPLES * 1e9)
            if self.meter is not None:
                self.meter.sample()
        return Reading(
            power_w=self.meter.stop().mean_w if self.meter is not None else None,
            temp_c=max(read_temperatures_c(self.fake.sysfs).values(), default=None),
            latency_ms=cost.frame_ms * (1 + 2 * busy_share) if self.sees else None,
        )


def simulate(
    board: SimulatedBoard,
    budget: Budget,
    schedule: str = "measured",
    seconds: int = 600,
    cycle: tuple[float | None, float] | None = None,
    worth: LevelWorth | None = None,
) -> Run:
    """Let the governor decide once a second, and do as it says.

    Args:
        board: what is governed.
        budget: limits.
        schedule: of the levels; `auto` is that of `plr-edge run`.
        seconds: simulated.
        cycle: multiply-adds (None for no limit) and seconds of a cycle of consolidation, which
            begins after half of the time.
        worth: what cycles at each level are worth.
    """
    step_s = board.cost.step_s
    name, why = ("classifier", WHILE_FRAMES_COME) if schedule == "auto" else (schedule, "")
    governor = Governor(budget, make_schedule(name, LEVELS, step_s), step_s, why)
    run, rate, shares = Run(), 0.0, governor.schedule.shares
    for second in range(seconds):
        if cycle is not None and second == seconds // 2:
            n_steps = steps_within(STEP_MACS, step_s, governor.core_share, *cycle)
            names = [level.name for level in LEVELS]
            choice = (worth or LevelWorth(macs_from(LEVELS))).choose(names, n_steps)
            governor.consolidate(choice.schedule(len(LEVELS)), choice.reason)
            shares, rate = choice.schedule(len(LEVELS)).shares, 0.0
        mean_step_s = sum(f * s for f, s in zip(shares, step_s, strict=True))
        done = min(rate, 1 / mean_step_s)
        reading = board.second(done * mean_step_s)
        decision = governor.decide(Reading(**{**vars(reading), "steps_per_s": done}), TICK_S)
        rate = decision.steps_per_s
        for values, value in (
            (run.power_w, reading.power_w), (run.temp_c, reading.temp_c),
            (run.latency_ms, reading.latency_ms), (run.steps_per_s, done),
            (run.decisions, decision),
        ):  # fmt: skip
            values.append(value)  # type: ignore[arg-type]
    return run


LEAST_MACS = 80.0 * STEP_MACS[0]  # of a cycle that a robot begins by itself
CASES: tuple[tuple[str, Budget], ...] = (
    ("orin-nano-4gb", Budget(power_w=7)),
    ("orin-nano-4gb", Budget(power_w=10)),
    ("agx-orin", Budget(power_w=15)),
    ("agx-thor", Budget(power_w=40)),
    ("raspberry-pi-5", Budget(duty_share=0.5, max_temp_c=75)),
    ("raspberry-pi-5", Budget(duty_share=0.1, max_temp_c=75)),
)
SITUATIONS: tuple[tuple[str, tuple[float | None, float] | None], ...] = (
    ("frames come", None),
    ("asked: 2 s", (None, 2.0)),
    ("asked: 10 s", (None, 10.0)),
    ("idle", (LEAST_MACS, 600.0)),
)


def main() -> None:
    """Print the table of benchmarks/results.md."""
    print("| board | budget | when | steps/s | levels | why these levels | W | C |")
    print("|---|---|---|---|---|---|---|---|")
    for name, budget in CASES:
        limits = {"W": budget.power_w, "C": budget.max_temp_c}
        texts = [f"{limit:g} {unit}" for unit, limit in limits.items() if limit is not None]
        if budget.duty_share is not None:
            texts.insert(0, f"duty {budget.duty_share:.0%}")
        for when, cycle in SITUATIONS:
            with tempfile.TemporaryDirectory() as folder:
                board = SimulatedBoard(make_board(name, Path(folder)))
                board.sees = when != "idle"
                run = simulate(board, budget, "auto", cycle=cycle)
            decision = run.decisions[-1]
            shares = "/".join(f"{s:.2f}".lstrip("0") for s in decision.shares)
            watts = "no sensor" if board.meter is None else f"{run.settled(run.power_w):.1f}"
            print(
                f"| {name} | {', '.join(texts)} | {when} | {run.settled(run.steps_per_s):.1f} "
                f"| {shares} | {decision.levels_reason} | {watts} "
                f"| {run.settled(run.temp_c):.0f} |"
            )


if __name__ == "__main__":
    main()
