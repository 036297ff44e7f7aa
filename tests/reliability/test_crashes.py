"""What was acknowledged survives kills, faults of the disk, and power cuts.

The long forms: `pytest tests/reliability -m long`; figures in docs/reliability.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAULTS = [("eio", 0), ("eio", 1), ("enospc", 0), ("enospc", 1), ("short", 0), ("eintr", 0)]


def test_a_kill_at_every_call_that_changes_a_file_loses_nothing(driven):
    facts = driven("sweep", "kill", 0, 1)
    assert facts["runs"] == facts["calls"] > 200
    assert facts["failures"] == []


@pytest.mark.parametrize(("action", "sticky"), FAULTS)
def test_a_disk_that_fails_at_a_call_loses_nothing(driven, action, sticky):
    facts = driven("sweep", action, sticky, 6)
    assert facts["runs"] > 30
    assert facts["failures"] == []


@pytest.mark.long
@pytest.mark.parametrize(("action", "sticky"), FAULTS)
def test_a_disk_that_fails_at_every_call_loses_nothing(driven, action, sticky):
    facts = driven("sweep", action, sticky, 1)
    assert facts["runs"] == facts["calls"]
    assert facts["failures"] == []


def test_power_cuts_lose_nothing(driven):
    facts = driven("cuts", 10_000, 0)
    assert facts["states"] >= 10_000
    assert facts["failures"] == []


@pytest.mark.long
def test_many_power_cuts_lose_nothing(driven):
    facts = driven("cuts", 100_000, 1)
    assert facts["states"] >= 100_000
    assert facts["failures"] == []


@pytest.mark.parametrize("rule", ["no file sync", "no folder sync", "unlink first", "wal normal"])
def test_a_store_that_breaks_a_rule_is_caught(driven, rule):
    assert driven("cuts", 5_000, 0, rule)["failures"]


def test_a_hundred_random_kills_lose_nothing(driven):
    facts = driven("kills", 100, 0)
    assert facts["kills"] == 100 and facts["taught"] > 100
    assert facts["failures"] == []


@pytest.mark.long
def test_a_thousand_random_kills_lose_nothing(driven):
    facts = driven("kills", 1_000, 1)
    assert facts["kills"] == 1_000
    assert facts["failures"] == []


def killed_while_training(bundle_path, state, n):
    done = subprocess.run(
        [sys.executable, str(HERE / "kills.py"), str(bundle_path), str(state), str(n), "0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_kills_while_training_lose_no_label(bundle_path, tmp_path):
    facts = killed_while_training(bundle_path, tmp_path / "s", 8)
    assert (facts["kills"], facts["lost"]) == (8, 0)


@pytest.mark.long
def test_many_kills_while_training_lose_no_label(bundle_path, tmp_path):
    facts = killed_while_training(bundle_path, tmp_path / "s", 200)
    assert facts["lost"] == 0 and facts["right"] > 0.9
