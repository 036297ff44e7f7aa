"""A long time of teaching: memory and disk stay flat, and the flash is spared."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
# latents 4 MB, the memory's with taps, canaries, two generations of 10 MB, SQLite's log
CAP_MB = 45


def soak(bundle_path, state, n):
    done = subprocess.run(
        [sys.executable, str(HERE / "soak.py"), str(bundle_path), str(state), str(n)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout)
    print(facts)
    return facts


def check(facts):
    most = CAP_MB + 200e-6 * facts["labels"]  # 200 bytes of a label stay without its latent
    assert max(look["state_mb"] for look in facts["looks"]) < most
    assert facts["gb_a_day"] < 10
    late = [look["rss_mb"] for look in facts["looks"][-len(facts["looks"]) // 3 :]]
    slope = np.polyfit(range(len(late)), late, 1)[0]
    assert slope * len(late) < 10  # MB over the last third, when all memories are full


@pytest.mark.slow
def test_a_short_soak_is_within_its_caps(bundle_path, tmp_path):
    check(soak(bundle_path, tmp_path / "s", 2_000))


@pytest.mark.long
def test_a_hundred_thousand_labels_are_within_their_caps(bundle_path, tmp_path):
    check(soak(bundle_path, tmp_path / "s", 100_000))
