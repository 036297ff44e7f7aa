"""No line of the TensorRT and CUDA modules is left to be run first on a robot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import plr_edge.engines

HERE = Path(__file__).parent
TESTS = ("test_tensorrt_engine.py", "test_plan_cache.py")
MODULES = ("cuda", "plan_", "tensorrt_")
CONFIG = """
[run]
source = plr_edge.engines
branch = true
parallel = true
patch = subprocess
data_file = {folder}/data
"""


@pytest.mark.slow
def test_every_line_and_branch_is_executed_by_some_test(tmp_path):
    pytest.importorskip("coverage", "7.10", reason="needs coverage 7.10, which follows children")
    (tmp_path / "coverage.ini").write_text(CONFIG.format(folder=tmp_path))

    def coverage(*arguments):
        command = [sys.executable, "-m", "coverage", arguments[0]]
        command += [f"--rcfile={tmp_path / 'coverage.ini'}", *arguments[1:]]
        subprocess.run(command, check=True, cwd=HERE.parent.parent, env=environment)

    environment = {**os.environ, "PYTHONPATH": str(Path(plr_edge.__file__).parent.parent)}
    tests = [str(HERE / name) for name in TESTS]
    coverage("run", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    coverage("combine", "-q")
    coverage("json", "-q", "-o", str(tmp_path / "report.json"))
    files = json.loads((tmp_path / "report.json").read_text())["files"]
    ours = {Path(f).name: facts for f, facts in files.items() if Path(f).name.startswith(MODULES)}
    on_disk = {file.name for file in Path(plr_edge.engines.__file__).parent.glob("*.py")}
    assert set(ours) == {name for name in on_disk if name.startswith(MODULES)}
    missed = {name: facts["missing_lines"] for name, facts in ours.items()}
    assert not any(missed.values()), missed
    assert all(facts["missing_branches"] == [] for facts in ours.values())
