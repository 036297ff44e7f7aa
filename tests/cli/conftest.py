"""`plr-edge adapt` on a network of a few thousand weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUNDLE = Path(__file__).parents[1] / "runtime" / "golden" / "bundle"


@pytest.fixture
def piped(tmp_path):
    """`plr-edge adapt -` as a process, as click's runner lends no standard input to iterate."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    def run(lines, *options):
        arguments = ["adapt", str(BUNDLE), "-", "--state", str(tmp_path / "s")]
        done = subprocess.run(
            [sys.executable, "-m", "plr_edge", *arguments, *options],
            input=lines, capture_output=True, text=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        done.exit_code, done.output = done.returncode, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def adapt(plr_edge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(stream, *options, input=None):
        arguments = ["adapt", str(BUNDLE), str(stream), "--state", "s", *options]
        return plr_edge(*arguments, input=input)

    return run
