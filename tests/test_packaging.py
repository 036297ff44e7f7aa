"""What nobody looks at: imports, tree, documentation."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import plr_edge

ROOT = Path(__file__).parent.parent
PACKAGE = Path(plr_edge.__file__).parent
ONLY_IN = {
    "click": ["cli"],
    "onnx": ["export"],
    "onnxruntime": ["engines/onnx_engine.py", "export/precision.py"],
    "tensorrt": ["engines/tensorrt_versions.py"],
    "cuda": ["engines/cuda_python.py"],
    "sqlite3": ["store/database.py"],
    "cryptography": ["signing.py"],
    "torch": [
        "backbones",
        "learner.py",
        "gaussian_generator.py",
        "generator.py",
        "mlp.py",
        "generative.py",
        "export",
        "bench",
        "runtime/session.py",
        "runtime/trainer.py",
    ],
}
PICKLES = re.compile(
    r"torch\.load\(|\bimport dill\b|\bdill\.|\bmemmap\b|safe_open|\bpickle\b|"
    r"allow_pickle=True|joblib\.load|"
    r"yaml\.load\("
)


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_stay_in_their_rooms(library):
    for file in sources():
        where = file.relative_to(PACKAGE).as_posix()
        if library in imported(file):
            assert any(where.startswith(room) for room in ONLY_IN[library]), where


def test_help_and_predict_load_nothing_heavy():
    code = (
        "import sys\n"
        "from plr_edge.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'PIL'} & set(sys.modules)\n"
        "import plr_edge.runtime.perception\n"
        "print(sorted(heavy), 'torch' in sys.modules, 'onnx' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[] False False"


def test_nothing_loads_pickles():
    for file in sources():
        assert not PICKLES.search(file.read_text()), file


def test_every_command_stands_in_the_readme():
    from plr_edge.cli import _COMMANDS

    readme = (ROOT / "README.md").read_text()
    for command in _COMMANDS:
        assert f"plr-edge {command}" in readme, command


def test_embedded_assets_are_a_few_megabytes_and_carry_their_licences():
    assets = PACKAGE / "assets"
    assert sum(file.stat().st_size for file in assets.rglob("*") if file.is_file()) < 8_000_000
    for folder in ("mobilenet_v2", "fruits"):
        assert (assets / folder / "LICENSE").is_file()
        assert "Source:" in (assets / folder / "README.md").read_text()
