"""A TensorRT and a CUDA that compute on the processor, in this process and its children."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"
FAKE_MODULES = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.runtime", "fake_torch")
VERSIONS = ("8.6.1", "10.0.1", "10.3.0", "11.4.0.106")


class FakeTensorRT:
    """The fakes, and the switches of what goes wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        self._monkeypatch, self.version = monkeypatch, version
        self.device = importlib.import_module("fake_device")
        self.major = int(version.split(".")[0])
        self.become(version)

    def become(self, version: str) -> None:
        """Install another version."""
        self._monkeypatch.setenv("FAKE_TENSORRT", version)
        for name in FAKE_MODULES:
            sys.modules.pop(name, None)

    def fault(self, *names: str) -> None:
        """Let something go wrong from here on; see the fakes."""
        self._monkeypatch.setenv("FAKE_TENSORRT_FAULT", ",".join(names))

    def cuda_fails(self, call: str) -> None:
        self._monkeypatch.setenv("FAKE_CUDA_FAIL", call)

    def gpu(self, facts: str) -> None:
        """Install another GPU: name, compute capability, total bytes, integrated."""
        self._monkeypatch.setenv("FAKE_GPU", facts)

    def torch(self):
        """Put a torch with a GPU into this process."""
        module = importlib.import_module("fake_torch")
        module.fail.clear()
        self._monkeypatch.setitem(sys.modules, "torch", module)
        return module


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Return a function that installs a version of TensorRT; CUDA is that of cuda-python."""
    paths = [str(FAKES), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(FAKES))
    kept = {name: sys.modules.pop(name, None) for name in FAKE_MODULES}
    yield lambda version: FakeTensorRT(monkeypatch, version)
    for name, module in kept.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.fixture(params=VERSIONS)
def fake(fakes, request):
    """Each version in turn."""
    return fakes(request.param)


@pytest.fixture
def fake10(fakes):
    """One version, where it does not matter which."""
    return fakes("10.3.0")
