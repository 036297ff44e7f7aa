"""What nobody looks at: imports, tree, documentation."""

import ast
import importlib.util
import subprocess
import sys
import tarfile
import zipfile
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
    "cryptography": ["bundle/signing.py", "serve/certificate.py"],
    "torch": ["backbones", "export", "generative", "graph", "replay", "robot/trainer.py"],
}
# what runs code, or dies with SIGBUS where a file shrinks, when it reads what a stranger wrote
UNSAFE_MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "mmap", "yaml"}
UNSAFE_CALLS = {
    "torch.load", "joblib.load", "np.memmap", "numpy.memmap", "pandas.read_pickle",
    "pd.read_pickle", "safe_open", "safetensors.safe_open", "eval", "exec", "np.fromfile",
    "numpy.fromfile",
}  # fmt: skip


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


def test_training_loads_no_onnx():
    code = (
        "import sys, plr_edge.robot.trainer, plr_edge.runtime.session\n"
        "print([m for m in ('torch', 'onnx', 'onnxscript') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['torch']\n"


def unsafe(source: str) -> list[str]:
    """Return what in a source unpickles, maps or evaluates."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{a.name}" for a in node.names}
            bad = node.module.split(".")[0] in UNSAFE_MODULES or names & UNSAFE_CALLS
            queues = node.module == "multiprocessing"  # its queues and pools pickle
            found += [node.module] if bad or queues else []
        elif isinstance(node, ast.Call):
            name, keys = (
                ast.unparse(node.func),
                {k.arg: ast.unparse(k.value) for k in node.keywords},
            )
            bad = name in UNSAFE_CALLS and keys.get("weights_only") != "True"  # tensors alone
            bad |= keys.get("allow_pickle", "False") != "False"
            found += [f"{name} maps"] if keys.get("mmap_mode", "None") != "None" else []
            bad |= name.endswith(".recv") and not node.args  # Connection.recv unpickles
            found += [name] if bad else []
    return found


def test_nothing_unpickles_maps_or_evaluates():
    scripts = [file for room in ("export", "deploy") for file in (ROOT / room).rglob("*.py")]
    for file in [*sources(), *scripts]:
        # the bench maps what it has computed or packed itself, on a workstation
        allowed = {"np.load maps"} if ROOT / "benchmarks" in file.parents else set()
        # what the trainer hands over lies in memory of both processes, in no file
        allowed |= {"mmap"} if file == PACKAGE / "robot" / "protocol.py" else set()
        assert set(unsafe(file.read_text())) <= allowed, file


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads as f", "import torch\ntorch.load('x')",
     "torch.load('x', weights_only=no)",
     "from torch import load", "np.load(f, allow_pickle=True)", "np.load(f, allow_pickle=yes)",
     "np.load(f, mmap_mode='r')", "np.memmap('x')", "from safetensors import safe_open",
     "connection.recv()", "from multiprocessing import Queue", "import cloudpickle", "eval('1')"],
)  # fmt: skip
def test_what_unpickles_maps_or_evaluates_is_found(source):
    assert unsafe(source)


def test_embedded_assets_are_a_few_megabytes_and_carry_their_licences():
    assets = PACKAGE / "assets"
    assert sum(file.stat().st_size for file in assets.rglob("*") if file.is_file()) < 8_000_000
    for folder in ("mobilenet_v2", "fruits"):
        assert (assets / folder / "LICENSE").is_file()
        assert "Source:" in (assets / folder / "README.md").read_text()


def test_wheel_and_sdist_hold_the_package_and_nothing_of_the_checkout(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"plr_edge"}
    assert {
        "plr_edge/py.typed",
        "plr_edge/serve/page.html",
        "plr_edge/boards/desktop.toml",
    } <= names
    with tarfile.open(sdist) as file:
        top = {member.name.split("/")[1] for member in file.getmembers()}
    pages = {"CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md"}
    assert top <= {"plr_edge", "pyproject.toml", ".gitignore", *pages}


def test_an_editable_install_exposes_the_package_alone(tmp_path):
    pytest.importorskip("editables")
    code = "from hatchling.build import build_editable as b; import sys; print(b(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as file:
        file.extractall(tmp_path / "site")
    editables = Path(importlib.util.find_spec("editables").origin).parents[1]
    code = (
        "import site, sys\nfrom importlib.util import find_spec\n"
        f"sys.path.append({str(editables)!r})\nsite.addsitedir(sys.argv[1])\n"
        "import plr_edge.errors\n"
        "print(plr_edge.__file__, [n for n in ('benchmarks', 'tests', 'deploy') if find_spec(n)])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "site")],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"{PACKAGE / '__init__.py'} []"


def long_functions(source: str) -> list[str]:
    """Return the functions of more than 60 lines, docstring aside."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = node.body[0] if ast.get_docstring(node) else None
        n_lines = node.end_lineno - node.lineno + 1
        n_lines -= docstring.end_lineno - docstring.lineno + 1 if docstring else 0
        found += [node.name] if n_lines > 60 else []
    return found


@pytest.mark.parametrize("package", [PACKAGE, ROOT / "benchmarks"], ids=lambda path: path.name)
def test_no_function_has_more_than_60_lines_and_no_file_more_than_300(package):
    texts = {file.relative_to(ROOT): file.read_text() for file in package.rglob("*.py")}
    assert len(texts) > 20
    assert {file: names for file, text in texts.items() if (names := long_functions(text))} == {}
    assert {file: n for file, text in texts.items() if (n := text.count("\n")) > 300} == {}


def test_a_long_function_is_found():
    lines = "    x = 1\n" * 60
    assert long_functions(f"def f():\n{lines}") == ["f"]
    assert long_functions(f"async def f():\n    '''Do.\n\n    It.\n    '''\n{lines[:-10]}") == []
