"""What was acknowledged survives kills, faults of the disk, and power cuts.

The long forms: `pytest tests/reliability -m long`; figures in docs/reliability.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVER = 1_000_000
# a fault, and how many calls more fail after it; twelve let an error pass before the disk heals
FAULTS = [
    ("eio", 0), ("eio", EVER), ("eio", 12), ("enospc", 0), ("enospc", EVER), ("edquot", EVER),
    ("erofs", EVER), ("short", 0), ("eintr", 0),
]  # fmt: skip
READ_FAULTS = [("read eio", 0), ("read eio", EVER), ("read short", EVER)]


def test_a_kill_at_every_call_that_changes_a_file_loses_nothing(driven):
    facts = driven("sweep", "kill", 0, 1)
    assert facts["runs"] == facts["calls"] > 200
    assert facts["failures"] == []


@pytest.mark.parametrize(("action", "again"), FAULTS)
def test_a_disk_that_fails_at_a_call_loses_nothing(driven, action, again):
    """Each fault at every ninth call, so that each call meets one of them."""
    facts = driven("sweep", action, again, 9, 1 + FAULTS.index((action, again)))
    assert facts["runs"] >= (facts["calls"] - 8) // 9 > 20
    assert facts["failures"] == []


def test_an_io_error_at_every_call_loses_nothing(driven):
    facts = driven("sweep", "eio", 0, 1)
    assert facts["runs"] == facts["calls"] > 200
    assert facts["failures"] == []


@pytest.mark.parametrize(("action", "again"), READ_FAULTS)
def test_a_disk_that_cannot_be_read_loses_nothing(driven, action, again):
    facts = driven("sweep", action, again, 1)
    assert facts["runs"] == facts["calls"] > 30
    assert facts["failures"] == []


@pytest.mark.long
@pytest.mark.parametrize(("action", "again"), FAULTS[1:])
def test_a_disk_that_fails_at_every_call_loses_nothing(driven, action, again):
    facts = driven("sweep", action, again, 1)
    assert facts["runs"] == facts["calls"]
    assert facts["failures"] == []


def test_kills_in_undo_forget_rollback_confirm_and_repair_leave_all_or_nothing(driven):
    facts = driven("commands", "kill", 0, 1)
    assert min(facts["runs"].values()) > 20
    assert facts["failures"] == []


@pytest.mark.long
@pytest.mark.parametrize(("action", "again"), FAULTS + READ_FAULTS)
def test_faults_in_undo_forget_rollback_confirm_and_repair_leave_all_or_nothing(
    driven, action, again
):
    assert driven("commands", action, again, 1)["failures"] == []


def test_power_cuts_in_undo_forget_rollback_confirm_and_repair_leave_all_or_nothing(driven):
    facts = driven("command-cuts", 0.3, 0)
    assert sum(facts["states"].values()) > 500
    assert facts["failures"] == []


@pytest.mark.long
def test_every_power_cut_in_undo_forget_rollback_confirm_and_repair(driven):
    facts = driven("command-cuts", 1.0, 0)
    print(facts)
    assert facts["failures"] == []


def test_a_repair_that_breaks_a_rule_is_caught(driven):
    assert driven("command-cuts", 0.3, 1, "repair in place")["failures"]


def test_a_recovery_that_is_killed_twice_at_any_call_loses_nothing(driven):
    facts = driven("nested", 150, 9)
    assert facts["runs"] > 150
    assert facts["failures"] == []


@pytest.mark.long
def test_a_recovery_that_is_killed_twice_at_every_call_loses_nothing(driven):
    facts = driven("nested", 10, 1)
    print(facts)
    assert facts["runs"] > 15_000
    assert facts["failures"] == []


def test_a_recovery_that_loses_power_twice_loses_nothing(driven):
    facts = driven("nested-cuts", 1, 60, 0)
    assert facts["states"] > 500
    assert facts["failures"] == []


@pytest.mark.long
def test_a_recovery_that_loses_power_twice_at_every_call_loses_nothing(driven):
    facts = driven("nested-cuts", 6, 1, 1)
    print(facts)
    assert facts["states"] > 20_000
    assert facts["failures"] == []


@pytest.mark.parametrize("seed", [0, 2])  # in two, so that two processes may share them
def test_power_cuts_lose_nothing(driven, seed):
    facts = driven("cuts", 5_000, seed)
    assert facts["states"] >= 5_000
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
