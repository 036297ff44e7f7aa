"""`plr-edge consolidate`, and the budget that `adapt` spends at the end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli.client import ask
from plr_edge.errors import ConfigError, PlrEdgeError
from plr_edge.runtime.consolidation import parse_budget
from plr_edge.runtime.session import Session


@pytest.fixture(scope="module")
def state(bundle_path, plr_edge, tmp_path_factory):
    path = tmp_path_factory.mktemp("consolidate") / "state"
    result = plr_edge("adapt", str(bundle_path), "demo", "--state", str(path), "--train-ratio", "0")
    assert result.exit_code == 0, result.output
    return path


def test_it_trains_and_publishes_through_the_gate(plr_edge, bundle_path, state):
    command = ["consolidate", str(bundle_path), "--state", str(state), "--json"]
    result = plr_edge(*command, "--budget", "60GMAC")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["n_steps"] > 10 and not facts["interrupted"]
    assert facts["verdict"]["n"] > 0
    with Session.resume(open_bundle(bundle_path), state) as session:
        assert session.learned.version == facts["version"] == 1
        assert session.learned.has_moved


def test_a_time_is_kept(plr_edge, bundle_path, state):
    start = time.monotonic()
    result = plr_edge("consolidate", str(bundle_path), "--state", str(state), "--budget", "2s")
    assert result.exit_code == 0, result.output
    assert 2 < time.monotonic() - start < 60
    assert "training steps" in result.output


@pytest.mark.parametrize("budget", ["5", "0s", "-3min", "nan s", "5 lightyears", "1e9GMAC"])
def test_a_wrong_budget_is_one_line(plr_edge, bundle_path, state, budget):
    command = ["consolidate", str(bundle_path), "--state", str(state), f"--budget={budget}"]
    result = plr_edge(*command)
    assert result.exit_code == 2
    assert "write a time like 90s" in result.output
    assert result.output.count("\n") == 1
    with pytest.raises(ConfigError):
        parse_budget(budget)


@pytest.mark.parametrize(
    ("text", "seconds", "macs"), [("90s", 90, None), ("1.5min", 90, None), ("2TMAC", None, 2e12)]
)
def test_budgets(text, seconds, macs):
    budget = parse_budget(text)
    assert (budget.seconds, budget.macs) == (seconds, macs)


def test_a_state_that_is_not_there_is_one_line(plr_edge, bundle_path, tmp_path):
    result = plr_edge("consolidate", str(bundle_path), "--state", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert result.output.count("\n") == 1


def test_ctrl_c_keeps_what_was_gained(bundle_path, state):
    command = [sys.executable, "-m", "plr_edge", "consolidate", str(bundle_path)]
    process = subprocess.Popen(
        [*command, "--state", str(state), "--budget", "10min", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "training steps" in process.stderr.readline()  # the first sign of progress
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    facts = json.loads(out)
    assert facts["interrupted"]
    with Session.resume(open_bundle(bundle_path), state) as session:
        assert session.learned.version == facts["version"]


# a running robot


@pytest.fixture(scope="module")
def served(bundle_path, state, tmp_path_factory):
    """A robot with this state, and its address."""
    listen = f"unix:{tmp_path_factory.mktemp('socket') / 'api'}"
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "none", "--state", str(state),
         "--listen", listen], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: health(listen)["trainer"].get("to_go") == 0)
        yield listen
    finally:
        process.terminate()
        assert process.wait(60) == 0


def health(listen):
    try:
        return json.loads(ask(listen, "GET", "/health").read())
    except PlrEdgeError:
        return {"trainer": {}, "consolidation": {"now": None}}


def until(condition, timeout=180):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def command(bundle_path, state, listen, *options):
    return [
        "consolidate", str(bundle_path), "--state", str(state), "--listen", listen, *options
    ]  # fmt: skip


def started(bundle_path, state, listen, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", *command(bundle_path, state, listen, *options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: (health(listen)["consolidation"]["now"] or {}).get("n_steps", 0) > 1)
    return process


def test_a_running_robot_consolidates_and_the_command_waits(plr_edge, bundle_path, state, served):
    before = health(served)["version"]
    result = plr_edge(*command(bundle_path, state, served, "--budget", "60GMAC", "--json"))
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["n_steps"] > 5 and facts["held_out"] > 0 and not facts["interrupted"]
    assert health(served)["version"] == before + facts["published"]
    assert health(served)["consolidation"]["last"]["outcome"] == facts["outcome"]


def test_ctrl_c_and_stop_end_the_cycle_of_the_robot(plr_edge, bundle_path, state, served):
    waiting = started(bundle_path, state, served, "--budget", "1h")
    refused = plr_edge(*command(bundle_path, state, served, "--budget", "1h"))
    assert refused.exit_code == 2 and "stop it first" in refused.output
    stopped = plr_edge(*command(bundle_path, state, served, "--stop"))
    assert stopped.exit_code == 0, stopped.output
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0 and "training steps at" in out, err
    again = plr_edge(*command(bundle_path, state, served, "--stop"))
    assert again.exit_code == 2 and "nothing is being consolidated" in again.output
    waiting = started(bundle_path, state, served, "--budget", "1h", "--json")
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 130 and json.loads(out)["interrupted"], err
    assert health(served)["consolidation"]["now"] is None


def test_a_trainer_that_dies_is_an_error(bundle_path, state, served):
    waiting = started(bundle_path, state, served, "--budget", "1h")
    pid = health(served)["trainer"]["pid"]
    os.kill(pid, signal.SIGKILL)
    _, err = waiting.communicate(timeout=120)
    assert waiting.returncode != 0 and "did not finish: interrupted" in err
    until(lambda: health(served)["trainer"].get("pid") not in (None, pid))


@pytest.mark.parametrize("budget", ["5", "0s", "-1GMAC", "x" * 60])
def test_a_robot_refuses_a_wrong_budget_in_one_line(plr_edge, bundle_path, state, served, budget):
    result = plr_edge(*command(bundle_path, state, served, f"--budget={budget}"))
    assert result.exit_code == 2 and "write a time like 90s" in result.output
    with pytest.raises(PlrEdgeError, match=r"write a time like 90s|at most 40"):
        ask(served, "POST", "/consolidate", {"budget": budget}, state)


def test_stop_without_a_robot_is_one_line(plr_edge, bundle_path, state):
    result = plr_edge("consolidate", str(bundle_path), "--state", str(state), "--stop")
    assert result.exit_code == 2 and result.output.count("\n") == 1
