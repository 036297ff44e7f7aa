"""Installation by role: what is missing is named in one line."""

import re
import sys
from pathlib import Path

import pytest

import plr_edge as package
from plr_edge.errors import EXTRAS, MissingExtraError, load, require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless", "pillow_heif": "pillow-heif",
    "prometheus_client": "prometheus-client",
}  # fmt: skip
CORE = {"click", "numpy", "onnxruntime", "pillow", "platformdirs", "safetensors", "tomli"}
# a command, the module that is missing, and the extra that it must name
COMMANDS = [
    ("export", ("-o", "new"), "onnx", "export"),
    ("export", ("--list-cuts",), "torch", "export"),
    ("adapt", ("bundle", "frames", "--state", "new"), "torch", "train"),
    ("run", ("bundle", "none", "--state", "new"), "torch", "train"),
    ("run", ("bundle", "none", "--state", "new"), "fastapi", "serve"),
    ("run", ("bundle", "none", "--state", "new"), "prometheus_client", "serve"),
    ("undo", ("bundle", "--state", "state", "--last", "1"), "torch", "train"),
    ("forget", ("bundle", "mug", "--state", "state"), "torch", "train"),
    ("profile", ("bundle",), "torch", "train"),
    ("plan", ("bundle",), "onnxscript", "export"),
    ("demo", ("-o", "new"), "matplotlib", "report"),
    ("demo", ("-o", "new"), "torch", "export"),
]


def distributions(extra: str) -> set[str]:
    found = PYPROJECT["project"]["optional-dependencies"][extra]
    return {re.match(r"[\w-]+", line)[0].lower() for line in found}


def test_the_core_holds_what_answers_frames_and_nothing_more():
    found = {re.match(r"[\w-]+", d)[0].lower() for d in PYPROJECT["project"]["dependencies"]}
    assert found == CORE


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_the_modules_that_are_looked_for(extra):
    wanted = {DISTRIBUTIONS.get(module, module) for module in EXTRAS[extra]}
    assert wanted == distributions(extra)


@pytest.mark.parametrize(
    ("command", "arguments", "module", "extra"), COMMANDS, ids=lambda value: str(value)[:12]
)
def test_a_command_without_its_role_is_one_line_that_names_the_extra(
    command, arguments, module, extra, plr_edge, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    result = plr_edge(command, *arguments)
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert f"plr-edge {command} needs {module}," in result.output
    assert re.search(rf"pip install 'plr-edge\[.*\b{extra}\b.*\]'", result.output)
    assert list(tmp_path.iterdir()) == []


def test_several_missing_roles_are_named_together(monkeypatch):
    for module in ("torch", "uvicorn"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as error:
        require("train", "serve", "report", why="it")
    assert str(error.value) == (
        "it needs torch and uvicorn, which are not installed: pip install 'plr-edge[train,serve]'"
    )


def test_a_public_name_without_its_role_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name, extra in (("Session", "train"), ("adapt", "train"), ("export_bundle", "export")):
        with pytest.raises(MissingExtraError, match=rf"plr_edge\.{name} .*plr-edge\[{extra}\]"):
            getattr(package, name)
    assert package.Perception and package.open_bundle


def test_a_library_that_does_not_load_is_told_from_one_that_is_missing(monkeypatch, tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open\\nshared file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(MissingExtraError) as error:
        load("cv2", "video", why="a camera")
    assert "installed but does not load (libGL.so.1: cannot open shared file)" in str(error.value)


def test_every_public_name_is_imported_for_type_checkers():
    text = Path(package.__file__).read_text()
    seen = re.findall(r"    from (plr_edge\S+) import \w+ as (\w+)\n", text)
    assert {name: home for home, name in seen} == package._HOMES
