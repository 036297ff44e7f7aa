"""Configurations are compared with budgets by a profile, and the governor agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_boards import make_board
from simulated_boards import BATCH, COSTS, LEVELS, SimulatedBoard, simulate

from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.planning.configurations import (
    Assessment,
    Configuration,
    Constraints,
    assess,
    consolidation_s,
)
from plr_edge.planning.cost_model import CostModel
from plr_edge.robot.governor import Budget

CONFIG = LearningConfig()
FPS = 30
OWN = Configuration(input_size=128, cut="block14", precision="fp32", levels=LEVELS,
                    frozen_macs=73_600_000, saved_bytes=870_000)  # fmt: skip


def profile_of(name: str) -> dict:
    """Return what `plr-edge profile` would measure on a simulated board, by its power model."""
    cost = COSTS[name]
    frame_mj = cost.perception_w / FPS * 1e3
    parts = {"prepare": 0.05, "frozen": 0.7, "adaptive": 0.2, "frame": 1.0}
    steps = [
        {"level": level.name, "p50_ms": s * 1e3, "macs": m, "net_mj": {"ina3221": j * 1e3}}
        for level, s, j, m in zip(
            LEVELS, cost.step_s, cost.step_j, OWN.step_macs(BATCH), strict=True
        )
    ]
    return {
        "machine": {"board_model": name, "n_cores": 6},
        "idle": {"ina3221": {"w": cost.rest_w}},
        "bundles": [{
            "frozen_sha256": "own",
            "engines": [{"part": p, "batch": 1, "p50_ms": x * cost.frame_ms / 2,
                         "p99_ms": x * cost.frame_ms, "net_mj": {"ina3221": x * frame_mj}}
                        for p, x in parts.items()],
            "steps": steps,
            "memory": {"trains": {"data_bytes": 500_000_000}, "answers": {"peak_rss_bytes": 10**8}},
        }],
    }  # fmt: skip


def model_of(profile: dict) -> CostModel:
    return CostModel(profile, {"own": OWN}, CONFIG)


def assessed(name: str, schedule: str = "progressive", configuration: Configuration = OWN,
             memory_limit_bytes: int | None = None, **budget: float) -> Assessment:  # fmt: skip
    model = model_of(profile_of(name))
    constraints = Constraints(budget=Budget(**budget), memory_limit_bytes=memory_limit_bytes,
                              frames_per_s=FPS, n_cores=6)  # fmt: skip
    costs = model.costs(configuration)
    return assess(configuration, costs, constraints, model.idle_w, CONFIG, schedule)


@pytest.mark.parametrize("schedule", ["measured", "progressive"])
@pytest.mark.parametrize(("name", "power_w"), [("orin-nano-4gb", 7.0), ("agx-orin", 15.0),
                                               ("agx-thor", 40.0)])  # fmt: skip
def test_plan_says_what_the_governor_will_give(tmp_path: Path, name: str, power_w: float, schedule):
    """The plan knows a profile, the governor only watts: in closed loop they come to the same."""
    plan = assessed(name, schedule, power_w=power_w)
    run = simulate(SimulatedBoard(make_board(name, tmp_path / name)), Budget(power_w=power_w),
                   schedule, seconds=300)  # fmt: skip
    assert plan.violation == ""
    assert plan.steps_per_s == pytest.approx(run.settled(run.steps_per_s), rel=0.06)
    watts = plan.watts + plan.steps_per_s * plan.step_mj / 1e3
    assert watts == pytest.approx(0.93 * power_w)


def test_what_a_bundle_was_measured_at_is_not_changed():
    costs = model_of(profile_of("orin-nano-4gb")).costs(OWN)
    assert costs.measured and costs.frame_ms == 4.5 and costs.frame_p99_ms == 9.0
    assert costs.step_ms == pytest.approx([1e3 * s for s in COSTS["orin-nano-4gb"].step_s])
    assert costs.trainer_bytes == 500_000_000


def test_estimates_follow_multiply_adds_and_bytes():
    model = model_of(profile_of("orin-nano-4gb"))
    later = replace(OWN, cut="head", levels=LEVELS[3:], saved_bytes=102_000,
                    frozen_macs=OWN.frozen_macs + sum(x.macs for x in LEVELS[:3]))  # fmt: skip
    costs, own = model.costs(later), model.costs(OWN)
    assert not costs.measured
    assert costs.step_ms == pytest.approx(own.step_ms[3:])  # the same blocks are trained
    assert costs.trainer_bytes < own.trainer_bytes - BATCH * (870_000 - 102_000)
    twice = replace(OWN, input_size=256, frozen_macs=4 * OWN.frozen_macs)
    assert model.costs(twice).frame_ms == pytest.approx(
        own.frame_ms * (4 * 0.05 + 4 * 0.7 + 0.2 + 0.05))  # fmt: skip
    assert model.costs(twice).frame_mj == pytest.approx(
        own.frame_mj * model.costs(twice).frame_ms / own.frame_ms)  # fmt: skip


def test_steps_of_a_profile_that_trains_nothing_but_the_classifier():
    """Then convolutions are expected to train at the rate at which the frozen part runs."""
    facts = profile_of("orin-nano-4gb")
    entry = facts["bundles"][0]
    entry["steps"] = entry["steps"][-1:]
    only = replace(OWN, cut="classifier", levels=LEVELS[-1:], saved_bytes=0)
    model = CostModel(facts, {"own": only}, CONFIG)
    rate = 0.7 * COSTS["orin-nano-4gb"].frame_ms / 2 / OWN.frozen_macs
    macs = OWN.step_macs(BATCH)
    first, last = model.costs(OWN).step_ms[0], model.costs(OWN).step_ms[-1]
    assert last == pytest.approx(entry["steps"][0]["p50_ms"])
    assert first == pytest.approx(last + rate * (macs[0] - macs[-1]))


@pytest.mark.parametrize(
    ("budget", "violation"),
    [
        ({"deadline_ms": 8.9}, "deadline: 9 ms"),
        ({"memory_limit_bytes": 525_000_000}, "memory: 500 MB"),
        ({"power_w": 5.0}, "power: 4.7 W"),
        ({"duty_share": 0.001}, "training: "),
        ({"deadline_ms": 9.1, "memory_limit_bytes": 527_000_000, "power_w": 6.0}, ""),
    ],
)
def test_first_budget_that_is_exceeded_is_named(budget, violation):
    assert assessed("orin-nano-4gb", **budget).violation.startswith(violation)
    assert bool(assessed("orin-nano-4gb", **budget).violation) == bool(violation)


def test_rate_beyond_the_frames_time_is_refused():
    large = replace(OWN, input_size=1280, frozen_macs=100 * OWN.frozen_macs)
    assert assessed("orin-nano-4gb", configuration=large).violation.startswith("rate: ")


def test_tighter_budgets_never_give_more_steps():
    rates = [assessed("agx-orin", power_w=w).steps_per_s for w in (11.0, 12.0, 15.0, 30.0)]
    assert rates == sorted(rates) and rates[0] < rates[-1]
    assert consolidation_s(assessed("agx-orin", power_w=15.0)) == pytest.approx(400 / rates[2])


def test_without_joules_there_is_no_power_and_the_model_says_so():
    facts = profile_of("raspberry-pi-5")
    for row in [*facts["bundles"][0]["engines"], *facts["bundles"][0]["steps"]]:
        del row["net_mj"]
    facts["idle"] = {}
    model = model_of(facts)
    assert not model.has_joules and model_of(profile_of("agx-orin")).has_joules
    constraints = Constraints(budget=Budget(), memory_limit_bytes=None, frames_per_s=FPS)
    one = assess(OWN, model.costs(OWN), constraints, model.idle_w, CONFIG)
    assert one.costs.frame_mj is None and one.step_mj is None and one.watts is None


def test_profile_without_what_costs_are_made_of_is_refused():
    facts = profile_of("agx-orin")
    del facts["bundles"][0]["memory"]
    with pytest.raises(ConfigError, match="lacks 'memory'"):
        model_of(facts)
