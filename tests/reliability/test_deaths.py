"""Whatever dies, the robot goes on by itself: no label is lost, and nobody restarts anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("cv2")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SCRIPT = Path(__file__).parent / "deaths.py"


def deaths(bundle_path, state, n):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(bundle_path), str(state), str(n)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout)
    print(facts)
    assert facts["deaths"] == n and facts["acknowledged"] == n and facts["lost"] == 0
    assert facts["seconds_with_frames"] >= 0.97 * facts["seconds_watched"]
    killed = facts["of_each"]["robot"] + facts["of_each"].get("disk full", 0)
    assert set(facts["exits"]) <= {"0", "-9"} and facts["starts"] <= killed + 1
    for reason in facts["skipped"]:
        print("skipped:", reason)
    return facts


def test_one_death_of_each_kind(bundle_path, tmp_path):
    deaths(bundle_path, tmp_path / "s", 6)


@pytest.mark.long
def test_two_hundred_deaths(bundle_path, tmp_path):
    deaths(bundle_path, tmp_path / "s", 200)
