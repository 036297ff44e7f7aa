"""A running robot: the short forms see that nothing breaks, the long ones reach the figures.

The long ones want two processors that nobody else uses.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.data.packs import unpack

pytestmark = pytest.mark.alone

pytest.importorskip("fastapi")
HERE = Path(__file__).parent


def measured(script, bundle, state, *arguments):
    done = subprocess.run(
        [sys.executable, str(HERE / script), str(bundle), str(state), *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_soaked_robot_answers_learns_and_ends(bundle_path, tmp_path):
    facts = measured("live_soak.py", bundle_path, tmp_path / "s", 8)
    assert not facts["crashed"] and facts["refused"] == 0 and facts["taught"] >= 2
    assert facts["frames"] > 20 and facts["last"]["failed"] == 0


@pytest.mark.alone
def test_an_abused_robot_keeps_what_it_acknowledged(bundle_path, tmp_path):
    """The short form of ten minutes of abuse. A busy machine makes it slower, and fails nothing."""
    facts = measured("abuse.py", bundle_path, tmp_path / "s", 4)
    assert 0 < facts["acknowledged"] <= facts["kept"] <= facts["acknowledged"] + facts["open"]
    assert facts["frames_per_s"] > 0 and facts["state"] != "degraded", facts["reason"]
    assert facts["pss_mb_most"] < 250 and facts["during"]["refused"] == 0


@pytest.mark.long
def test_an_hour_of_frames_and_teaching(bundle_path, tmp_path):
    facts = measured("live_soak.py", bundle_path, tmp_path / "s", 3600)
    assert not facts["crashed"] and facts["trainer_deaths"] == 0 and facts["refused"] == 0
    assert facts["rise_per_hour"]["pss_mb"] < 5 and facts["rise_per_hour"]["threads"] < 1


@pytest.mark.long
def test_ten_minutes_of_abuse(bundle_path, tmp_path):
    facts = measured("abuse.py", bundle_path, tmp_path / "s", 600)
    assert facts["acknowledged"] == facts["kept"] and facts["times_p99"] <= 2
    assert facts["pss_mb_most"] < 200


@pytest.mark.long
@pytest.mark.parametrize("quota", [None, 0.5])
def test_training_costs_frames_next_to_nothing(bundle_path, tmp_path, quota):
    if quota and os.getuid() != 0:
        pytest.skip("needs root for a cgroup with a quota")
    limit = [quota] if quota else []
    facts = measured("live.py", bundle_path, tmp_path / "s", "blocks", 10, 20, *limit)
    assert facts["added_p99_ms"] <= max(2.0, 0.1 * facts["paused"]["p99_ms"])
    assert facts["missed_training"] - facts["missed_paused"] <= 0.001
    assert facts["training"]["steps"] > 10


@pytest.mark.long
def test_a_tormented_trainer_costs_no_frame(bundle_path, tmp_path):
    facts = measured("live.py", bundle_path, tmp_path / "s", "torment", 200)
    assert facts["dropped_share"] <= facts["baseline_dropped_share"] + 0.001


@pytest.mark.long
@pytest.mark.data
def test_forty_classes_answer_at_once_and_are_consolidated(bundle_path, tmp_path):
    unpack(Path(os.environ["PLR_EDGE_DATA"]) / "fruits-turntable", tmp_path / "fruits")
    facts = measured("live.py", bundle_path, tmp_path / "s", "teach", tmp_path / "fruits", 40)
    assert facts["answer_ms_median"] < 100 and facts["right_at_once"] >= 0.85
    assert facts["version_with_all_s"] < 30


@pytest.mark.long
def test_the_first_prediction_comes_within_two_seconds(bundle_path, tmp_path):
    facts = measured("live.py", bundle_path, tmp_path / "s", "start", 5)
    assert max(facts["first_prediction_s"]) < 2 and max(facts["pss_mb"]) < 150
    assert max(facts["end_s"]) < 2
