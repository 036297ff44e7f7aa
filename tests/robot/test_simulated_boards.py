"""The governor in closed loop with simulated boards, through the real meters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_boards import make_board
from simulated_boards import COSTS, LEAST_MACS, LEVELS, SimulatedBoard, simulate

from plr_edge.replay.schedule import macs_from, make_schedule
from plr_edge.robot.governor import Budget
from plr_edge.robot.level_choice import LevelWorth

WITH_METER = {"orin-nano-4gb": 7.0, "agx-orin": 15.0, "agx-thor": 40.0}
SETTLING_S = 60


def board(tmp_path: Path, name: str, air_c: float = 25.0) -> SimulatedBoard:
    tmp_path.mkdir(exist_ok=True)
    return SimulatedBoard(make_board(name, tmp_path / name), air_c)


@pytest.mark.parametrize("schedule", ["measured", "progressive"])
@pytest.mark.parametrize("name", WITH_METER)
def test_power_settles_within_the_budget_and_uses_it(tmp_path: Path, name: str, schedule: str):
    budget_w = WITH_METER[name]
    run = simulate(board(tmp_path, name), Budget(power_w=budget_w), schedule, seconds=240)
    after = run.power_w[SETTLING_S:]
    assert max(after) <= budget_w
    assert sum(after) / len(after) > 0.85 * budget_w
    assert run.settled(run.steps_per_s) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_METER)
def test_tighter_budget_never_gives_more_steps(tmp_path: Path, name: str):
    rest_w = COSTS[name].rest_w + COSTS[name].perception_w
    rates = []
    for number, factor in enumerate((0.9, 1.1, 1.3, 1.6, 2.5)):
        run = simulate(board(tmp_path / str(number), name), Budget(power_w=factor * rest_w),
                       seconds=150)  # fmt: skip
        rates.append(run.settled(run.steps_per_s, last=60))
    assert rates == sorted(rates)
    assert rates[0] < 0.5 < rates[-1]  # below what it takes anyway there is nothing to spend


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTS)
def test_hot_board_throttles_the_trainer_and_a_cool_one_does_not(tmp_path: Path, name: str):
    budget = Budget(max_temp_c=60, duty_share=0.8)
    cool = simulate(board(tmp_path / "cool", name, air_c=5.0), budget, seconds=400)
    cost = COSTS[name]
    air_c = 60 * 0.95 - cost.heating_c_per_w * (cost.rest_w + cost.perception_w) - 1.0
    hot = simulate(board(tmp_path / "hot", name, air_c=air_c), budget, seconds=400)
    assert hot.settled(hot.steps_per_s) < 0.5 * cool.settled(cool.steps_per_s)
    assert max(hot.temp_c[200:]) <= 60


def test_air_that_is_too_hot_stops_training(tmp_path: Path):
    run = simulate(board(tmp_path, "raspberry-pi-5", air_c=60), Budget(max_temp_c=60), seconds=60)
    assert run.steps_per_s[-1] == 0.0 and "limit 60 C" in run.decisions[-1].reason


@pytest.mark.parametrize("name", COSTS)
def test_deadline_is_kept_by_training_less(tmp_path: Path, name: str):
    deadline_ms = 1.7 * COSTS[name].frame_ms
    run = simulate(board(tmp_path, name), Budget(deadline_ms=deadline_ms), seconds=150)
    free = simulate(board(tmp_path / "free", name), Budget(), seconds=150)
    assert max(run.latency_ms[SETTLING_S:]) <= deadline_ms < max(free.latency_ms)


def test_idle_robot_gets_the_power_that_perception_leaves(tmp_path: Path):
    rates = []
    for sees in (True, False):
        one = board(tmp_path / str(sees), "orin-nano-4gb")
        one.sees = sees
        run = simulate(one, Budget(power_w=7), "progressive", seconds=240)
        assert max(run.power_w[SETTLING_S:]) <= 7
        rates.append(run.settled(run.steps_per_s))
    assert rates[1] > 1.3 * rates[0]


@pytest.mark.parametrize("name", COSTS)
def test_measured_schedule_orders_the_levels_by_cost(tmp_path: Path, name: str):
    step_s = COSTS[name].step_s
    assert list(step_s) == sorted(step_s, reverse=True)
    run = simulate(board(tmp_path, name), Budget(duty_share=0.3), seconds=30)
    shares = run.decisions[-1].shares
    assert list(shares) == sorted(shares)
    assert shares == make_schedule("measured", LEVELS, step_s).shares


def test_same_share_of_the_time_gives_each_board_a_frequency_of_its_own(tmp_path: Path):
    budget = Budget(duty_share=0.3)
    rates = {name: simulate(board(tmp_path, name), budget, "progressive", 60).steps_per_s[-1]
             for name in COSTS}  # fmt: skip
    by_rate = sorted(rates, key=rates.__getitem__)
    assert by_rate == ["raspberry-pi-5", "orin-nano-4gb", "agx-orin", "agx-thor"]


def test_meter_that_fails_under_way_ends_in_the_least_training(tmp_path: Path):
    one = board(tmp_path, "agx-thor")
    before = simulate(one, Budget(power_w=40), seconds=60)
    (one.fake.sysfs / "devices/platform/i2c/2-0044/hwmon/hwmon2/power1_input").unlink()
    one.fake.setters["VIN"] = lambda watts: None
    after = simulate(one, Budget(power_w=40), seconds=60)
    assert before.steps_per_s[-1] > 1 > after.steps_per_s[-1] > 0
    assert "nothing to read" in after.decisions[-1].reason


def test_board_without_a_meter_refuses_a_power_budget(tmp_path, monkeypatch, plr_edge):
    from plr_edge.meters import find_power_meters

    fake = make_board("raspberry-pi-5", tmp_path / "pi")
    found = find_power_meters(fake.sysfs)
    monkeypatch.setattr("plr_edge.meters.find_power_meters", lambda: found)
    result = plr_edge("run", "bundle", "none", "--state", str(tmp_path / "s"), "--power", "7W")
    assert result.exit_code == 2
    assert "a power budget of 7 W needs a meter, and there is none here" in result.output


@pytest.mark.slow
def test_table_of_the_documentation_is_what_the_program_prints():
    here = Path(__file__).parent
    table = subprocess.run(
        [sys.executable, str(here.parent / "simulated_boards.py")], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert table in (here.parents[1] / "benchmarks" / "results.md").read_text()


@pytest.mark.parametrize("name", COSTS)
def test_small_budgets_go_to_the_deepest_level_and_large_ones_to_earlier_ones(tmp_path, name):
    entered = []
    for number, seconds in enumerate((0.05, 1.0, 5.0, 60.0, 600.0)):
        run = simulate(board(tmp_path / str(number), name), Budget(duty_share=0.5), "auto", 60,
                       (None, seconds))  # fmt: skip
        assert run.decisions[0].shares == (0, 0, 0, 0, 1)  # while frames come
        assert "pay only in a cycle" in str(run.decisions[0])
        entered.append(run.decisions[-1].shares.index(1.0))
    assert entered[0] == 4 and entered[-1] == 0
    assert entered == sorted(entered, reverse=True)


def test_slower_boards_enter_deeper_for_the_same_seconds(tmp_path):
    entered = {
        name: simulate(board(tmp_path, name), Budget(duty_share=0.5), "auto", 60,
                       (None, 3.0)).decisions[-1].shares.index(1.0)
        for name in COSTS
    }  # fmt: skip
    assert entered["raspberry-pi-5"] == 4 > entered["orin-nano-4gb"] > entered["agx-thor"] == 0


def test_a_cycle_keeps_the_budget_of_power_from_its_first_second(tmp_path):
    run = simulate(board(tmp_path, "orin-nano-4gb"), Budget(power_w=7), "auto", 240, (None, 600.0))
    assert run.decisions[-1].shares == (1, 0, 0, 0, 0)
    assert max(run.power_w[SETTLING_S:]) <= 7
    assert run.settled(run.steps_per_s, 60) > 1


def test_levels_whose_cycles_gained_nothing_lately_are_entered_less(tmp_path):
    worth, number = LevelWorth(macs_from(LEVELS)), iter(range(9))

    def idle():
        one = board(tmp_path / str(next(number)), "agx-orin")
        return simulate(one, Budget(), "auto", 60, (LEAST_MACS, 600.0), worth).decisions[-1]

    first = idle()
    assert first.shares.index(1.0) == 0
    for _ in range(4):
        worth.observe(0, 80, -3.0, n_held_out=400)
    second = idle()
    assert second.shares.index(1.0) > 0 and "block14 80 for -" in second.levels_reason
    for _ in range(40):  # and after a while it is tried again
        worth.observe(4, 80, 0.3, n_held_out=400)
    assert worth.gains[0] > 0.5
