"""Threads and cores of the trainer are its own, apart from those of the engines."""

import json
import os
import subprocess
import sys
import time

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli.client import ask
from plr_edge.errors import ConfigError, PlrEdgeError
from plr_edge.robot.options import RobotOptions, make_robot

CORES = sorted(os.sched_getaffinity(0))


def settings(bundle, state, **options):
    robot = make_robot(bundle, state, RobotOptions(**options))
    try:
        return robot.model.trainer._settings, robot.model.engines
    finally:
        robot.model.close()


def test_they_are_told_apart(bundle_path, tmp_path):
    bundle = open_bundle(bundle_path)
    trainer, engines = settings(bundle, tmp_path / "a", threads=2)
    assert (trainer["n_threads"], trainer["cpus"], engines.n_threads) == (1, None, 2)
    last = str(CORES[-1])
    trainer, engines = settings(bundle, tmp_path / "b", cpus=last, threads=1)
    assert (trainer["n_threads"], trainer["cpus"], engines.n_threads) == (1, [CORES[-1]], 1)


@pytest.mark.skipif(len(CORES) < 2, reason="one core")
def test_the_process_has_as_many_threads_as_it_was_given(bundle_path, tmp_path):
    trainer, engines = settings(open_bundle(bundle_path), tmp_path / "a", trainer_threads=2)
    assert (trainer["n_threads"], engines.n_threads) == (2, 1)


@pytest.mark.parametrize("options", [{"cpus": str(CORES[0])}, {}], ids=["bound", "all"])
def test_more_threads_than_cores_are_refused(bundle_path, tmp_path, options):
    n_cores = 1 if options else len(CORES)
    with pytest.raises(ConfigError, match=f"give --trainer-threads 1 to {n_cores}"):
        make_robot(
            bundle_path, tmp_path / "s", RobotOptions(trainer_threads=n_cores + 1, **options)
        )
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", "257"])
def test_what_is_no_number_of_threads_is_one_line(plr_edge, number):
    start = ("run", "bundle", "none", "--state", "s")
    result = plr_edge(*start, f"--trainer-threads={number}")
    assert result.exit_code == 2 and "--trainer-threads" in result.output
    assert "Traceback" not in result.output


def test_the_running_trainer_is_on_its_core(bundle_path, tmp_path):
    listen = f"unix:{tmp_path / 'api.sock'}"
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "none", "--state",
         str(tmp_path / "s"), "--listen", listen, "--cpus", str(CORES[-1])],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                health = json.loads(ask(listen, "GET", "/health").read())
            except PlrEdgeError:
                health = {}
            if health.get("trainer", {}).get("latents") is not None:
                break
            time.sleep(0.2)
        children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
        threads = [t for pid in children for t in os.listdir(f"/proc/{pid}/task")]
        assert threads
        assert all(os.sched_getaffinity(int(pid)) == {CORES[-1]} for pid in children)
        assert os.sched_getaffinity(process.pid) == set(CORES)
    finally:
        process.terminate()
        process.wait(60)
