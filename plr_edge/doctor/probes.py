"""Probes: each tries one library or file in a child process, which may crash or hang.

`probing.run_probe` starts them. A probe reports values as lines of JSON, always before the next
step, so that they survive a crash. What libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from plr_edge.errors import PlrEdgeError, one_line

# an ONNX model, opset 13: doubles a float32 (1,)
_DOUBLE = bytes.fromhex(
    "08083a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020801620f0a0179120a"
    "0a08080112040a02080142040a00100d"
)
_PACKAGES = (
    "numpy", "torch", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless",
    "opencv-contrib-python", "opencv-contrib-python-headless", "tensorrt", "tensorrt-bindings",
    "tensorrt-libs", "tensorrt-cu12", "tensorrt-cu12-bindings", "tensorrt-cu12-libs",
    "tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs",
)  # fmt: skip
_TRIED_PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider")
_IGNORED_EXTRAS = {"bench", "dev", "docs", "test"}  # not needed on a board

_reports: TextIO = sys.stdout


class _MissingError(Exception):
    """The library is not installed."""


def _report(**values: Any) -> None:
    print(json.dumps(values), file=_reports, flush=True)


def _load(name: str) -> Any:
    """Import a module, and report its file and its version."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its parent package is missing
        spec = None
    if spec is None or spec.origin is None:  # pip leaves an empty folder behind
        _report(found=False)
        raise _MissingError
    file = os.path.realpath(spec.origin)  # JetPack's packages may be linked into an environment
    _report(found=True, file=file, trying="to import it")
    module = importlib.import_module(name)
    version = getattr(module, "__version__", None)
    _report(version=None if version is None else str(version))
    return module


def _python() -> None:
    """Report the interpreter, its import path and the installed packages."""
    dist_packages = re.compile(r"/usr/lib/python3[\d.]*/dist-packages")
    try:
        requirements = importlib.metadata.requires("plr-edge") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    extras: dict[str, bool] = {}
    for line in requirements:
        found = re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line)
        if found and found[2] not in _IGNORED_EXTRAS:
            extras[found[2]] = extras.get(found[2], True) and bool(_installed(found[1]))
    _report(
        version=platform.python_version(),
        executable=sys.executable,
        prefix=sys.prefix,
        venv=sys.prefix != sys.base_prefix,
        sees_system=any(dist_packages.fullmatch(folder) for folder in sys.path),
        packages={name: _installed(name) for name in _PACKAGES if _installed(name)},
        extras=extras,
    )


def _installed(name: str) -> list[list[str]]:
    """Return version and folder of every copy on the path, the one that is imported first."""
    copies = []
    for one in importlib.metadata.distributions(name=name):
        copy = [one.version, str(one.locate_file(""))]
        if copy not in copies:
            copies.append(copy)
    return copies


def _numpy() -> None:
    numpy = _load("numpy")
    _report(trying="to multiply two matrices")
    ones = numpy.ones((8, 8), numpy.float32)
    if float((ones @ ones).sum()) != 512:
        raise ArithmeticError("8 x 8 ones times 8 x 8 ones do not add up to 512")


def _torch() -> None:
    torch = _load("torch")
    _report(cuda=torch.version.cuda, trying="to share memory with NumPy")
    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:
        _report(numpy_error=_one_line(error))
    if torch.version.cuda is None:
        return
    _report(trying="to reach the GPU")
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        _report(reachable=False, cuda_error=_one_line(error))
        return
    major, minor = torch.cuda.get_device_capability()
    _report(
        reachable=True,
        gpu=torch.cuda.get_device_name(),
        capability=f"{major}.{minor}",
        architectures=torch.cuda.get_arch_list(),
        trying="an operation on the GPU",
    )
    ones = torch.ones(8, 8, device="cuda")
    if float((ones @ (ones + 1)).sum()) != 1024:
        raise ArithmeticError("8 x 8 ones times 8 x 8 twos do not add up to 1024 on the GPU")


def _onnxruntime() -> None:
    """Run a tiny model on each provider, because a listed provider may fail to start."""
    runtime = _load("onnxruntime")
    import numpy as np

    # the CPU wheel also lists the Azure provider, which is not used here
    listed = [p for p in runtime.get_available_providers() if not p.startswith("Azure")]
    _report(providers=listed)
    failed: dict[str, str] = {}
    for provider in sorted(set(listed) & set(_TRIED_PROVIDERS)):
        _report(trying=f"to run a model with {provider}")
        try:
            session = runtime.InferenceSession(_DOUBLE, providers=[provider])
            if provider not in session.get_providers():
                raise RuntimeError("it could not be started")
            (result,) = session.run(None, {"x": np.array([3], np.float32)})
            if result.tolist() != [6]:
                raise RuntimeError(f"it returns {result.tolist()} for 3 + 3")
        except Exception as error:  # its exceptions have no common base class
            failed[provider] = _one_line(error)
    _report(failed=failed)


def _opencv() -> None:
    cv2 = _load("cv2")
    built = re.search(r"GStreamer:\s+(\w+)", cv2.getBuildInformation())
    _report(gstreamer=built is not None and built[1] == "YES")


def _tensorrt() -> None:
    trt = _load("tensorrt")
    _report(trying="to make a runtime")
    trt.Runtime(trt.Logger(trt.Logger.ERROR))  # raises a TypeError if CUDA does not start


def _cuda_python() -> None:
    _load("cuda.bindings")
    runtime = importlib.import_module("cuda.bindings.runtime")
    _report(trying="to count the GPUs")
    status, n_gpus = runtime.cudaGetDeviceCount()
    _report(status=status.name, n_gpus=n_gpus)


def _nvml() -> None:
    _load("pynvml")
    from plr_edge.meters.base import PowerMeter
    from plr_edge.meters.nvml import find_nvml

    _report(trying="to read the power of each GPU")
    meter = find_nvml(threaded=False)
    if isinstance(meter, PowerMeter):
        _report(rails=meter.rails)
    else:
        _report(reason=meter.removeprefix("nvml: "))


def _bundle(path: str) -> None:
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.engines.trial import try_bundle

    _report(trying="to read it")
    bundle = open_bundle(path)
    _report(
        bundle=bundle.name,
        precision=bundle.precision,
        frozen_sha256=bundle.frozen_sha256,
        trying="to run it",
    )
    try_bundle(bundle, again=True)
    _report(ran=True)


def _state(path: str) -> None:
    from plr_edge.store import opened_for_reading

    _report(trying="to read it")
    with opened_for_reading(Path(path), check_latents=True) as store:
        identity, labels = store.facts.get("identity") or {}, list(store.labels)
        _report(
            damage=list(store.generations.damage().values()),
            bundle=identity.get("bundle"),
            frozen_sha256=identity.get("frozen_sha256"),
            n_labels=len(labels),
            n_generations=len(store.generations),
        )


PROBES: dict[str, Callable[..., None]] = {
    "python": _python,
    "torch": _torch,
    "tensorrt": _tensorrt,
    "onnxruntime": _onnxruntime,
    "opencv": _opencv,
    "numpy": _numpy,
    "cuda-python": _cuda_python,
    "nvml": _nvml,
    "bundle": _bundle,
    "state": _state,
}


def _one_line(error: Exception) -> str:
    text = one_line(error, 500)
    name = "" if isinstance(error, PlrEdgeError) else type(error).__name__
    return ": ".join(filter(None, [name, text]))


def main(name: str, *arguments: str) -> None:
    """Run a probe by its name in `PROBES`, and exit without any cleanup."""
    global _reports
    _reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the reports
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # saves hundreds of MB
    try:
        PROBES[name](*arguments)
    except _MissingError:
        pass
    except Exception as error:
        _report(error=_one_line(error))
    _report(trying=None)
    sys.stderr.flush()
    os._exit(0)
