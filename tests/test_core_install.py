"""A bundle and a state that were made with every role, on a machine that has the core alone.

Builds the wheel, installs it into a fresh environment and needs a package index; PLR_EDGE_PYTHON
names another interpreter, such as one of Python 3.13.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_roles import COMMANDS, ROOT

from plr_edge.errors import EXTRAS

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that holds the core, from the wheel."""
    folder = tmp_path_factory.mktemp("core")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    base = os.environ.get("PLR_EDGE_PYTHON", getattr(sys, "_base_executable", sys.executable))
    subprocess.run([base, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True)
    return python


@pytest.fixture(scope="module")
def learned(bundle_path, demo_frames, tmp_path_factory, plr_edge):
    """A folder with the bundle, a state of three classes, and images of these."""
    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(bundle_path, folder / "bundle")
    classes = list(dict.fromkeys(frame.label for frame in demo_frames))[:3]
    for i, frame in enumerate(demo_frames):
        if frame.label in classes:
            part = folder / ("test" if i % 4 == 0 else "train") / str(frame.label)
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame.image).save(part / f"{i:03}.png")
    bundle, state = str(folder / "bundle"), str(folder / "state")
    taught = plr_edge("adapt", bundle, str(folder / "train"), "--state", state)
    assert taught.exit_code == 0, taught.output
    answered = plr_edge("predict", bundle, str(folder / "test"), "--state", state)
    (folder / "expected").write_text(answered.stdout)
    return folder


def run(python, *arguments, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_no_optional_library_is_installed(python):
    modules = ["rich", "psutil", *(m for extra in EXTRAS.values() for m in extra)]
    code = f"from importlib.util import find_spec as f; print([m for m in {modules} if f(m)])"
    assert run(python, "-c", code).stdout == "[]\n"


def test_frames_are_answered_as_where_the_bundle_was_made(python, learned):
    command = ("-m", "plr_edge", "predict", "bundle", "test", "--state", "state")
    done = run(python, *command, cwd=learned)
    assert done.returncode == 0, done.stderr
    found, expected = (
        [(Path(line["source"]).name, line["class"], line["version"]) for line in map(
            json.loads, text.splitlines())]
        for text in (done.stdout, (learned / "expected").read_text())
    )  # fmt: skip
    assert found == expected and len(found) == 9


@pytest.mark.parametrize(
    "command",
    ["--help", "inspect state", "log state", "schedule bundle", "quarantine state",
     "verify bundle", "repair state", "doctor bundle --state state"],
)  # fmt: skip
def test_what_needs_no_role_works(python, learned, command):
    done = run(python, "-m", "plr_edge", *command.split(), cwd=learned)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "extra"),
    [(c, a, e) for c, a, m, e in COMMANDS if m in ("torch", "fastapi")],
    ids=lambda value: str(value)[:12],
)
def test_what_needs_a_role_is_one_line_that_names_it(python, learned, command, arguments, extra):
    done = run(python, "-m", "plr_edge", command, *arguments, cwd=learned)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert re.search(rf"plr-edge\[.*\b{extra}\b.*\]", done.stderr)


def test_a_user_s_type_checker_sees_the_types(python, tmp_path):
    """By `py.typed`; mypy is of this environment and looks into the other one."""
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(
        "import plr_edge\nfrom plr_edge import LearningConfig, Perception, open_bundle\n"
        "reveal_type(open_bundle('b'))\nreveal_type(Perception.from_state)\n"
        "LearningConfig(memory_bytes='8MB')\nplr_edge.open_bundel\n"
    )
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\n[mypy-torch.*,numpy.*,onnx.*,PIL.*]\nfollow_imports = skip\n"
    )
    command = ("-m", "mypy", "--python-executable", str(python), "user.py")
    done = run(sys.executable, *command, cwd=tmp_path)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert lines[0] == 'note: Revealed type is "plr_edge.bundle.bundle.Bundle"'
    assert "-> plr_edge.runtime.perception.Perception" in lines[1]
    assert 'incompatible type "str"; expected "int"' in lines[2]
    assert 'no attribute "open_bundel"' in lines[3].replace("Module has", "")
    assert len(lines) == 5 and "4 errors" not in lines[4]
