import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def browser_python():
    """An interpreter that has PySide6: this one, or the one of PLR_EDGE_BROWSER_PYTHON."""
    python = os.environ.get("PLR_EDGE_BROWSER_PYTHON", sys.executable)
    done = subprocess.run(
        [python, "-c", "import PySide6.QtWebEngineWidgets"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs PySide6 for a headless browser: pip install PySide6")
    return python


def test_two_objects_are_taught_on_the_page_recognised_and_one_undone(bundle_path, tmp_path):
    python = browser_python()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    robot = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "demo", "--state",
         str(tmp_path / "s"), "--listen", f"127.0.0.1:{port}", "--rate", "8"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = next(line for line in robot.stderr if "serving at" in line).split()[-1]
        done = subprocess.run(
            [python, str(HERE / "browser.py"), url, str(tmp_path / "page.png")],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        facts = json.loads(done.stdout.splitlines()[-1])
        assert facts["state"] in ("serving", "learning")
        assert (tmp_path / "page.png").stat().st_size > 10_000
    finally:
        robot.terminate()
        robot.wait(10)
