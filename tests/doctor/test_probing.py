"""Packages that crash, hang, shout or lie are answers; the real ones here are tried, too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_boards import write

from plr_edge.doctor.probing import run_probe

STDLIB_AND_US = [folder for folder in sys.path if "site-packages" not in folder]
CUDA = """
class _Gpu:
    init = staticmethod(lambda: None)
    get_device_capability = staticmethod(lambda: (8, 7))
    get_device_name = staticmethod(lambda: "Orin")
    get_arch_list = staticmethod(lambda: ["sm_80"])
class _Zeros:
    numpy = staticmethod(lambda: None)
class _Version:
    cuda = "12.6"
class _Ones:
    def __add__(self, other): return self
    def __matmul__(self, other): return self
    def sum(self): return {sum}
__version__ = "2.5.0"
cuda, version, zeros, ones = _Gpu, _Version, lambda n: _Zeros, lambda *s, device: _Ones()
"""


def tried(folder: Path, module: str, code: str, probe: str, timeout_s: float = 120) -> dict:
    """Ask a probe about a package that is this code."""
    write(folder / f"{module}/__init__.py", code)
    return run_probe(probe, path=[str(folder), *STDLIB_AND_US], timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
         "it crashed (SIGSEGV) when trying to import it"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
         "it was killed, most likely because memory ran out, when trying to import it"),
        ("import os, sys; print('libx says no', file=sys.stderr); sys.stderr.flush(); os._exit(3)",
         "it ended (libx says no) when trying to import it"),
        ("raise SystemExit('go away')", "it ended (go away) when trying to import it"),
        ("raise OSError('libnvinfer.so.10: no such file')",
         "OSError: libnvinfer.so.10: no such file"),
        ("import nothing_of_this_name",
         "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ],
)  # fmt: skip
def test_package_that_cannot_be_imported_is_an_answer(tmp_path: Path, code: str, error: str):
    answer = tried(tmp_path, "tensorrt", code, "tensorrt")
    assert answer["found"] and answer["error"] == error
    assert answer["file"] == str(tmp_path / "tensorrt/__init__.py")


def test_package_that_hangs_is_ended(tmp_path: Path) -> None:
    answer = tried(tmp_path, "cv2", "import time; time.sleep(60)", "opencv", timeout_s=4)
    assert answer["error"].startswith("no answer within 4 s")


def test_what_a_package_prints_is_no_answer(tmp_path: Path) -> None:
    code = (
        "import os, json; print(json.dumps({'version': 'lies'})); os.write(1, b'{\"found\": 0}\\n')"
        "\n__version__ = '4.8.0'\ndef getBuildInformation(): return '  GStreamer:   YES (1.20)'"
    )
    answer = tried(tmp_path, "cv2", code, "opencv")
    assert (answer["found"], answer["version"], answer["gstreamer"]) == (True, "4.8.0", True)
    assert "lies" in answer["output"]


@pytest.mark.parametrize(
    ("total", "error"),
    [
        ("1024.0", None),
        ("1000.0", "ArithmeticError: 8 x 8 ones times 8 x 8 twos do not add up to 1024 on the GPU"),
        ("exec('raise RuntimeError(\"CUDA error: no kernel image is available\")')",
         "RuntimeError: CUDA error: no kernel image is available"),
    ],
)  # fmt: skip
def test_cuda_is_believed_when_an_operation_came_out_right(tmp_path: Path, total: str, error):
    answer = tried(tmp_path, "torch", CUDA.replace("{sum}", total), "torch")
    assert answer["reachable"] and answer["gpu"] == "Orin" and answer["capability"] == "8.7"
    assert answer.get("error") == error


def test_empty_folder_that_pip_left_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "tensorrt").mkdir()
    answer = run_probe("tensorrt", path=[str(tmp_path), *STDLIB_AND_US])
    assert answer["found"] is False and "error" not in answer


def test_packages_are_told_with_every_copy_that_is_on_the_path(tmp_path: Path) -> None:
    for folder, name, version in (("a", "onnxruntime", "1.23.2"), ("a", "onnxruntime_gpu", "1.23"),
                                  ("a", "numpy", "2.2.6"), ("b", "numpy", "1.21.5")):  # fmt: skip
        metadata = tmp_path / folder / f"{name}-{version}.dist-info/METADATA"
        write(metadata, f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")
    path = [str(tmp_path / "a"), str(tmp_path / "b"), *STDLIB_AND_US]
    packages = run_probe("python", path=path)["packages"]
    assert set(packages) == {"numpy", "onnxruntime", "onnxruntime-gpu"}
    assert [version for version, _ in packages["numpy"]] == ["2.2.6", "1.21.5"]


@pytest.mark.parametrize("probe", ["numpy", "onnxruntime", "torch"])
def test_packages_of_this_machine_are_found_and_work(probe: str) -> None:
    answer = run_probe(probe)
    assert answer["found"] and answer["version"] and "error" not in answer
    if probe == "onnxruntime":
        assert "CPUExecutionProvider" in answer["providers"]
        assert "CPUExecutionProvider" not in answer["failed"]
        assert not any("Azure" in provider for provider in answer["providers"])


def test_interpreter_of_this_machine_is_told() -> None:
    answer = run_probe("python")
    assert answer["version"].startswith(".".join(map(str, sys.version_info[:2])))
    assert answer["executable"] == sys.executable
    assert {"numpy", "torch", "onnxruntime"} <= set(answer["packages"])


def test_model_that_is_run_is_a_valid_one() -> None:
    import onnx

    from plr_edge.doctor.probes import _DOUBLE

    onnx.checker.check_model(onnx.load_from_string(_DOUBLE), full_check=True)
