"""NVIDIA's own Python bindings on a machine without a GPU: fetched, and asked what they have.

The bindings want three libraries (four in 8.x) of which only a dozen entry points are called at
import; stand-ins that return NULL let them load, in a process of its own. Classes, enums, methods
and docstrings are all there; nothing can be built or run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from platformdirs import user_cache_path

PACKAGES = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.13.3.9": "tensorrt-cu12-bindings==10.13.3.9",
    "10.16.1.11": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
}
CUDA_PACKAGES = {
    "12.9.4": "cuda-bindings==12.9.4 cuda-pathfinder==1.3.2",
    "13.0.3": "cuda-bindings==13.0.3 cuda-pathfinder==1.3.2",
}
FOLDER = Path(os.environ.get("PLR_EDGE_BINDINGS", user_cache_path("plr-edge") / "bindings"))
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers")
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getPluginRegistry",
    "getBuilderPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins",
    # of 8.6 alone
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)  # fmt: skip
PIP_S, CHILD_S = 120, 60

ASK = """
import ctypes, importlib, json, sys
folder, module, *libraries = sys.argv[1:]
for library in libraries:
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
sys.path.insert(0, folder)
module = importlib.import_module(module)
assert module.__file__.startswith(folder), module
def ask(name):
    found = module
    for part in name.split("."):
        found = getattr(found, part[:-2])() if part.endswith("()") else getattr(found, part)
    return found.__doc__ or ""
answers = {}
for name in json.load(sys.stdin):
    try:
        answers[name] = ask(name)
    except AttributeError:
        answers[name] = None
print(json.dumps(answers))
"""


def fetched(package: str, may_download: bool) -> Path:
    """Return the folder of unpacked wheels for this Python, or skip."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = FOLDER / f"{re.sub('[= ]+', '-', package)}-{tag}"
    if folder.is_dir():
        return folder
    if not may_download:
        pytest.skip(f"{package} is not in {FOLDER}; `pytest -m bindings` downloads it")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary",
               ":all:", "--dest", str(partial), *package.split()]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PIP_S)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        pytest.skip(f"{package} cannot be had for {tag} here: {said}")
    for wheel in partial.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(partial)
        wheel.unlink()
    partial.rename(folder)
    return folder


def stand_ins(major: str, folder: Path) -> list[str]:
    """Compile the libraries that the bindings of a major version want, or skip."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to make stand-ins for TensorRT's libraries")
    source = folder / "stand_in.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS))
    made = []
    for library in LIBRARIES:
        file = folder / f"lib{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", "-w", f"-Wl,-soname,{file.name}", "-o", str(file)]
        subprocess.run([*command, str(source)], check=True)
        made.append(str(file))
    return made


def docstrings(
    package: str, module: str, names: set[str], libraries: list[str], may_download: bool
) -> dict[str, str | None]:
    """Return the docstring of each dotted name below the package's module, None where absent."""
    folder = fetched(package, may_download)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ASK, str(folder), module, *libraries],
        input=json.dumps(sorted(names)), capture_output=True, text=True, timeout=CHILD_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
