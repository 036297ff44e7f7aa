"""Every name that the code uses exists in NVIDIA's own bindings, with the parameters it is given.

Source -> (ast) the names used = names of the fakes -> each in the real bindings of its versions.
"""

import importlib
import inspect
import re
import sys
from types import SimpleNamespace

import pytest
from engines import bindings, surface

ONLY_8 = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "BuilderFlag.FP16",
    "BuilderFlag.INT8",
}
BEFORE_10_1 = {"ICudaEngine.device_memory_size"}
SINCE_10_1 = {"ICudaEngine.device_memory_size_v2"}
ONLY_10 = {"NetworkDefinitionCreationFlag.STRONGLY_TYPED"}
OURS = {"ILogger.__init__", "__version__"}  # subclassed; a string


def used_by(version: str) -> set[str]:
    """Return the names that run on a version: all but those of the other branches."""
    major, minor = map(int, version.split(".")[:2])
    names = surface.tensorrt_names()
    if major >= 10:
        names -= ONLY_8
    if major != 10:
        names -= ONLY_10
    return names - (BEFORE_10_1 if (major, minor) >= (10, 1) else SINCE_10_1)


def fake_names(trt) -> dict[str, object]:
    """Return every public name of the fake, dotted, but the enum members that only it holds."""
    found = {}
    for name, value in vars(trt).items():
        if name.startswith("_") or not isinstance(value, type):
            continue
        for attribute, member in _public(value).items():
            found[f"{name}.{attribute}"] = member
            if isinstance(member, type):
                found |= {f"{name}.{attribute}.{n}": m for n, m in _public(member).items()}
    return found


def _public(cls):
    if hasattr(cls, "__members__"):
        return dict(cls.__members__)
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")}


@pytest.mark.parametrize("version", ["8.6.1", "10.0.1", "10.3.0", "10.13.3.9", "11.4.0.106"])
def test_the_fake_has_what_the_source_uses_and_nothing_else(fakes, version):
    fakes(version)
    fake = fake_names(importlib.import_module("tensorrt"))
    fake |= dict.fromkeys(instance_names())
    is_enum = tuple(f"{name}." for name in surface.ENUMS)
    used = {name for name in used_by(version) if "." in name} - OURS
    # an enum may hold members that the source never names, such as those of another value
    extra = {name for name in set(fake) - used if not name.startswith(is_enum)}
    overridden = {"ILogger.log", "ILogger.Severity"}
    assert extra <= overridden, "names of the fake that are not used: nothing would check them"
    assert used <= set(fake), "names that are used and that the fake lacks"


def instance_names():
    """Attributes that the fake sets on instances."""
    return ["ITensor.name", "ITensor.shape", "IBuilderConfig.builder_optimization_level"]


@pytest.fixture(scope="session")
def may_download(request):
    return "bindings" in (request.config.option.markexpr or "")


@pytest.fixture(scope="session")
def real(tmp_path_factory, may_download):
    """Return a function: version to docstrings of all names, those of other branches too."""
    kept = {}

    def asked(version):
        if version not in kept:
            names = surface.tensorrt_names() | {"ILogger.log"}
            names |= {f"{name.split('.')[0]}.__init__" for name in names if "." in name}
            libraries = bindings.stand_ins(version.split(".")[0], tmp_path_factory.mktemp("libs"))
            kept[version] = bindings.docstrings(
                bindings.PACKAGES[version], "tensorrt_bindings", names, libraries, may_download
            )
        return kept[version]

    return asked


@pytest.mark.bindings
@pytest.mark.parametrize("version", bindings.PACKAGES)
def test_every_name_exists_in_the_real_bindings(real, version):
    answers = real(version)
    missing = {name for name in used_by(version) if answers[name] is None}
    assert not missing
    assert len(used_by(version)) > 40  # the source was read, and found to use something


@pytest.mark.bindings
def test_what_the_branches_are_for_is_really_gone(real):
    for name in ONLY_8 | BEFORE_10_1:
        assert real("11.4.0.106")[name] is None, name
    for name in ONLY_10 | SINCE_10_1:
        assert real("8.6.1")[name] is None, name
    for version in ("10.3.0", "10.13.3.9", "11.4.0.106"):
        assert real(version)["ICudaEngine.device_memory_size_v2"] is not None


def parameters(doc: str) -> list[list[str]]:
    """Return the parameter names of each overload that a pybind11 docstring describes."""
    found = []
    for line in re.findall(r"^(?:\d+\. )?\w+\((self: .*)\) -> ", doc, flags=re.MULTILINE):
        depth, text = 0, ""
        for c in line:
            depth += c in "[<("
            depth -= c in "]>)"
            text += c if depth == 0 else ""
        found.append([part.split(":")[0].strip() for part in text.split(", ")])
    return found


def test_parameters_of_docstrings_are_read():
    doc = "f(*args, **kwargs)\nOverloaded function.\n\n1. f(self: t.B, a: List[int, str], b: x = <E.A: 0>) -> int\n\n2. f(self: t.B) -> bool"  # fmt: skip  # noqa: E501
    assert parameters(doc) == [["self", "a", "b"], ["self"]]


@pytest.mark.bindings
@pytest.mark.parametrize("version", bindings.PACKAGES)
def test_calls_bind_to_the_real_parameters(real, fakes, version):
    """The code runs on the fake; so what binds there must bind here: same names, same order."""
    fakes(version)
    trt, answers = importlib.import_module("tensorrt"), real(version)
    checked = 0
    for name, doc in answers.items():
        cls, _, method = name.rpartition(".")
        function = inspect.getattr_static(getattr(trt, cls, None), method, None)
        constructed_by_us = cls in ("Builder", "OnnxParser", "Runtime", "ILogger")
        if not inspect.isfunction(function) or (method == "__init__" and not constructed_by_us):
            continue
        ours = list(inspect.signature(function).parameters)
        overloads = parameters(doc or "")
        assert ours in [overload[: len(ours)] for overload in overloads], (name, ours, doc)
        checked += 1
    assert checked >= 25


CUDA_ROOTS = {"runtime", "_runtime"}


def test_the_fake_cuda_has_what_the_source_uses_and_nothing_else(fakes):
    fakes("10.3.0")
    runtime = importlib.import_module("cuda.bindings.runtime")
    used = surface.chains("cuda_python.py", CUDA_ROOTS)
    public = {name for name in vars(runtime) if name.startswith("cuda")}
    assert {name.split(".")[0] for name in used} == public - {"cudaError_t"}
    for name in used:
        found = runtime
        for part in name.split("."):
            found = getattr(found, part)


@pytest.mark.bindings
@pytest.mark.parametrize("version", bindings.CUDA_PACKAGES)
def test_every_cuda_call_exists_in_the_real_cuda_python(fakes, may_download, version):
    fakes("10.3.0")
    fake = importlib.import_module("cuda.bindings.runtime")
    names = surface.chains("cuda_python.py", CUDA_ROOTS)
    fields = ("name", "major", "minor", "integrated", "totalGlobalMem")
    names |= {f"cudaDeviceProp().{field}" for field in fields}
    answers = bindings.docstrings(
        bindings.CUDA_PACKAGES[version], "cuda.bindings.runtime", names, [], may_download
    )
    assert {name for name, doc in answers.items() if doc is None} == set()
    for name, doc in answers.items():
        function = getattr(fake, name, None)
        if inspect.isfunction(function):
            ours = list(inspect.signature(inspect.unwrap(function)).parameters)
            (line,) = re.findall(rf"^{name}\((.*)\)$", doc, flags=re.MULTILINE)
            theirs = [re.split(r"[ :]", part.split(":")[0])[-1] for part in line.split(", ")]
            assert ours == (theirs if line else []), (name, line)


def test_the_fake_torch_is_like_the_real_one(fakes):
    fakes("10.3.0")
    fake = importlib.import_module("fake_torch")
    torch = importlib.import_module("torch")
    used = surface.chains("cuda_torch.py", {"torch", "_torch"})
    used |= surface.chains("cuda.py", {"torch"})
    assert {"cuda.Stream", "cuda.graph", "empty", "cuda.mem_get_info"} <= used
    for name in used:
        ours, theirs = fake, torch
        for part in name.split("."):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
    for name in ("data_ptr", "copy_", "__getitem__"):
        assert hasattr(torch.Tensor, name)
    assert hasattr(torch.cuda.CUDAGraph, "replay") and hasattr(torch.cuda.Stream, "synchronize")
    theirs = inspect.signature(torch.cuda.graph.__init__).parameters
    assert {"cuda_graph", "pool", "stream", "capture_error_mode"} <= set(theirs)
    assert isinstance(fake.cuda, SimpleNamespace) and "fake_torch" in sys.modules
