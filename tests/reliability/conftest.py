import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plr_edge.bundle.reading import open_bundle

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The preloaded library that counts, fails and logs calls."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler (apt install gcc) to put faults below SQLite")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "shim.c")], check=True
    )
    return library


@pytest.fixture
def driven(shim):
    """Run `driver.py` under the shim, and return the facts that it prints last."""

    def run(*arguments: object) -> dict:
        done = subprocess.run(
            [sys.executable, str(HERE / "driver.py"), str(shim), *map(str, arguments)],
            env={"LD_PRELOAD": str(shim), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1",
                 "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stderr.splitlines()[-1])

    return run
