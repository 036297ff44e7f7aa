"""deploy/install.sh for real, into a temporary root; this Python's packages play the system's."""

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy
import pytest

INSTALL = Path(__file__).parents[2] / "deploy" / "install.sh"
PACKAGES = sysconfig.get_paths()["purelib"]
SYSTEM_PYTHON = getattr(sys, "_base_executable", sys.executable)  # not that of an environment
CORE = "click|numpy|onnxruntime|pillow|PIL|platformdirs|safetensors"
CORE += "|flatbuffers|google|hatchling|packaging|pathspec|pluggy|protobuf|trove"
JETSON_TORCH = "2.5.0a0+872d972e41.nv24.8"  # what NVIDIA calls its build for JetPack 6


def install(root, *options, path=PACKAGES, **environment):
    """Run the installer; `path` is where the system's packages lie."""
    env = {**os.environ, "PYTHON": SYSTEM_PYTHON, "PYTHONPATH": str(path), **environment}
    backend = importlib.util.find_spec("hatchling")
    if path and backend:  # then pip need not download it
        env["PYTHONPATH"] += f":{Path(backend.origin).parents[1]}"
        env["PIP_NO_BUILD_ISOLATION"] = "0"  # which pip reads as "no isolation"
    return subprocess.run(
        ["sh", str(INSTALL), "--root", str(root), *options],
        env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def files_in(root):
    """Return content by name of what lies outside the virtual environment."""
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and "srv" not in file.relative_to(root).parts
    }


@pytest.fixture(scope="module")
def jetson(tmp_path_factory):
    """A root with state, and packages of a system that has NVIDIA's torch."""
    root, packages = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("packages")
    (root / "etc").mkdir()
    (root / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    learned = root / "var" / "lib" / "plr-edge" / "learned"
    learned.mkdir(parents=True)
    (learned / "kept.bin").write_bytes(b"what was learned")
    info = packages / f"torch-{JETSON_TORCH}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {JETSON_TORCH}\n")
    (packages / "torch").mkdir()
    (packages / "torch" / "__init__.py").write_text("")
    return root, f"{packages}:{PACKAGES}"


@pytest.mark.slow
def test_it_can_be_run_twice_keeps_jetpacks_torch_and_takes_itself_away(jetson):
    root, path = jetson
    options = ("--prefix", "/srv/robot", "--extras", "serve")
    first = install(root, *options, path=path)
    assert first.returncode == 0, first.stderr + first.stdout
    home = root / "srv" / "robot"
    venv = home / "current"
    assert f"torch=={JETSON_TORCH}" in (venv / "keep.txt").read_text()
    assert not list(venv.glob("lib/*/site-packages/torch*"))
    assert list(venv.glob("lib/*/site-packages/plr_edge"))
    assert "next: sudo plr-edge export -o /srv/robot/bundle" in first.stdout
    after = files_in(root)
    assert set(after) >= {
        "etc/systemd/system/plr-edge.service", "etc/systemd/system/plr-edge-engine.service",
        "etc/systemd/system/plr-edge-predict.service", "etc/systemd/system/plr-edge@.service",
        "etc/udev/rules.d/60-plr-edge.rules",
        "etc/default/plr-edge",
    }  # fmt: skip
    unit = after["etc/systemd/system/plr-edge.service"]
    assert b"ExecStart=/srv/robot/bin/plr-edge run" in unit and b"/opt/" not in unit
    assert b"PLR_EDGE_BUNDLE=/srv/robot/bundle" in after["etc/default/plr-edge"]
    link = root / "usr" / "local" / "bin" / "plr-edge"
    assert os.readlink(link) == "/srv/robot/bin/plr-edge"

    (root / "etc" / "default" / "plr-edge").write_text("PLR_EDGE_SOURCE=none\n")
    (home / "bundle").mkdir()
    (root / "etc" / "systemd" / "system" / "plr-edge.service").write_text("old")
    second = install(
        root, "--prefix", "/srv/robot", "--extras", "serve", path=path, PIP_NO_DEPS="1"
    )
    assert second.returncode == 0, second.stderr
    assert "next:" not in second.stdout
    kept = sorted(path.name for path in (home / "versions").iterdir())
    assert len(kept) == 2 and os.readlink(home / "current") == f"versions/{kept[1]}"
    assert os.readlink(home / "previous") == f"versions/{kept[0]}"
    assert files_in(root) == {**after, "etc/default/plr-edge": b"PLR_EDGE_SOURCE=none\n"}
    done = subprocess.run(
        [str(home / "bin" / "plr-edge"), "--version"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0 and "version" in done.stdout

    for _ in range(2):
        gone = install(root, "--prefix", "/srv/robot", "--uninstall", path=path)
        assert gone.returncode == 0, gone.stderr
        assert not link.is_symlink() and [p.name for p in home.iterdir()] == ["bundle"]
        assert files_in(root) == {
            "etc/nv_tegra_release": after["etc/nv_tegra_release"],
            "etc/default/plr-edge": b"PLR_EDGE_SOURCE=none\n",
            "var/lib/plr-edge/learned/kept.bin": b"what was learned",
        }
        assert gone.stdout.count("kept: ") == 3


def test_on_a_jetson_without_torch_it_stops_before_pip_brings_another(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    done = install(tmp_path, path="")
    assert done.returncode == 2
    assert "root can import no torch" in done.stderr and "--cpu-torch" in done.stderr
    assert not (tmp_path / "etc" / "systemd").exists()


@pytest.mark.slow
def test_a_board_that_only_predicts_gets_no_torch(tmp_path):
    """Not even on a Jetson, where a missing torch stops the installer otherwise."""
    root, packages, site = tmp_path / "root", tmp_path / "packages", Path(numpy.__file__).parents[1]
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    packages.mkdir()
    for entry in site.iterdir():  # what the core needs, as the system's
        if re.match(CORE, entry.name):
            (packages / entry.name).symlink_to(entry)
    done = install(root, "--predict-only", "--extras", "sign", path=packages)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "plr-edge-predict" in done.stdout and "plr-edge export" not in done.stdout
    installed = {
        path.name.lower() for path in root.glob("opt/plr-edge/current/lib/*/site-packages/*")
    }
    assert "plr_edge" in installed
    assert not [name for name in installed if re.match("torch|onnx|nvidia|fastapi|rich", name)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--colour"], "no option '--colour'"),
        (["--prefix"], "--prefix needs a value"),
        (["--prefix", "opt"], "must be an absolute path"),
        (["--prefix", "/"], "must be an absolute path"),
        (["--prefix", "/opt/a b"], "may contain letters"),
        (["--predict-only", "--cpu-torch"], "leave out --cpu-torch"),
    ],
)
def test_bad_options_are_one_line(tmp_path, options, words):
    done = install(tmp_path, *options)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "opt" / "plr-edge").mkdir(parents=True)
    (tmp_path / "opt" / "plr-edge" / "thesis.txt").write_text("years of work")
    done = install(tmp_path)
    assert done.returncode == 2 and "is not an installation of plr-edge" in done.stderr
    install(tmp_path, "--uninstall")
    assert (tmp_path / "opt" / "plr-edge" / "thesis.txt").exists()
