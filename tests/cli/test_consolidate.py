"""`plr-edge consolidate`, and the budget that `adapt` spends at the end."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import ConfigError
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
