"""`plr-edge run --board`: budgets of a board, and what refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plr_edge.errors import ConfigError
from plr_edge.meters.sampling import IntegratingMeter
from plr_edge.robot.governor import Budget
from plr_edge.robot.options import (
    RobotOptions,
    check_measurable,
    find_board,
    read_budget,
    read_memory_limit,
)


def meter(rails: tuple[str, ...], total: tuple[str, ...]) -> IntegratingMeter:
    return IntegratingMeter("fake", rails, total, lambda: {}, interval_s=None)


def machine(monkeypatch: pytest.MonkeyPatch, *meters: IntegratingMeter, hot: bool = True) -> None:
    """Let this machine have these meters, and a temperature or none."""
    temperatures = {"cpu": 40.0} if hot else {}
    monkeypatch.setattr("plr_edge.meters.find_power_meters", lambda: (list(meters), ["none found"]))
    monkeypatch.setattr("plr_edge.meters.read_temperatures_c", lambda: temperatures)


def test_budgets_that_are_not_given_come_from_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, meter(("VDD_IN",), ("VDD_IN",)))
    options = RobotOptions(board="orin-nano-4gb", power="7W")
    board = find_board(options.board)
    budget = read_budget(options, board, 4)
    check_measurable(budget)
    assert (budget.power_w, budget.duty_share) == (7, 0.5)
    assert (budget.deadline_ms, budget.max_temp_c) == (33, 80)
    assert read_memory_limit(options, board) == 1_000_000_000
    assert read_memory_limit(RobotOptions(memory_limit="600MB"), board) == 600_000_000


def test_without_the_option_nothing_is_limited() -> None:
    assert find_board(None) is None
    assert read_budget(RobotOptions(), None, 4) == Budget()
    assert read_memory_limit(RobotOptions(), None) is None


@pytest.mark.parametrize(
    "meters",
    [(), (meter(("VDD_GPU",), ()),), (meter(("GPU",), ("GPU", "CPU")),)],
    ids=["no meter", "no total", "part of the total"],
)
def test_power_budget_of_a_board_is_refused_where_nothing_measures_it(
    monkeypatch: pytest.MonkeyPatch, meters: tuple[IntegratingMeter, ...]
) -> None:
    machine(monkeypatch, *meters)
    with pytest.raises(ConfigError, match=r"power budget of 30 W needs a meter"):
        check_measurable(read_budget(RobotOptions(), find_board("agx-orin"), 4))


def test_limit_of_temperature_is_refused_without_a_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, hot=False)
    with pytest.raises(ConfigError, match=r"limit of 75 C needs a temperature sensor"):
        check_measurable(read_budget(RobotOptions(), find_board("raspberry-pi-5"), 4))


def test_auto_on_a_machine_that_does_not_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not tell which board.*orin-nano-4gb"):
        find_board("auto", tmp_path)


def test_auto_takes_the_board_of_the_device_tree(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    board = find_board("auto", tmp_path)
    assert read_budget(RobotOptions(), board, None).max_temp_c == 75


def test_unknown_board_is_one_line(plr_edge, tmp_path: Path) -> None:
    result = plr_edge("run", "bundle", "none", "--state", str(tmp_path / "s"), "--board", "tx2")
    assert result.exit_code == 2
    assert "unknown board 'tx2'; choose one of agx-orin" in result.output
