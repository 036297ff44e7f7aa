"""Rules about packages: NumPy, ONNX Runtime, OpenCV and the optional extras."""

from __future__ import annotations

import re

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok

_OPENCVS = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python",
    "opencv-contrib-python-headless",
)  # fmt: skip
_NEEDS_SYSTEM_LIBRARY = {
    "libGL.so": "{pip} uninstall -y opencv-python && {pip} install opencv-python-headless",
    "libopenblas.so": "sudo apt-get install libopenblas0",
}
_STATIC_TLS = re.compile(r"(/\S+): cannot allocate memory in static TLS block")
# in this order, because packages built for NumPy 1 also produce messages of the second kind
_BUILT_FOR_NUMPY_1 = re.compile(
    r"compiled using NumPy 1\.x|_ARRAY_API not found|Numpy is not available"
)
_BUILT_FOR_NEWER_NUMPY = re.compile(
    r"No module named 'numpy\._core|compiled against (NumPy C-)?A[BP]I version|"
    r"numpy\.core\.multiarray failed to import"
)


def failed(setup: Setup, probe: str, reinstall: str) -> Finding | None:
    """Return a finding if a package cannot be used; None if it can.

    Args:
        setup: the machine.
        probe: name of the probe that tried the package.
        reinstall: the fix, unless the error message suggests a better one.
    """
    result = setup.result(probe)
    if "error" not in result:
        return None
    error = str(result["error"])
    text = f"{error} {result.get('output', '')}"
    static_tls = _STATIC_TLS.search(text)
    fix = reinstall
    if numpy_fix(setup, text):
        fix = numpy_fix(setup, text) or reinstall
    elif static_tls:
        fix = f"export LD_PRELOAD={static_tls[1]}  # before you start plr-edge"
    else:
        for library, command in _NEEDS_SYSTEM_LIBRARY.items():
            if f"{library}" in error:
                fix = command.format(pip=setup.pip)
    name = " ".join(filter(None, [probe, result.get("version")]))
    return broken(f"{name} cannot be used: {error}", fix)


def numpy_fix(setup: Setup, text: str) -> str | None:
    """Return the fix if an error message tells of a package built for another NumPy; else None."""
    if _BUILT_FOR_NUMPY_1.search(text):
        return f"{setup.pip} install 'numpy<2'"
    if _BUILT_FOR_NEWER_NUMPY.search(text):
        return f"{setup.pip} install --upgrade numpy"
    return None


def _numpy_fails(setup: Setup) -> Finding | None:
    if setup.result("numpy").get("found") is False:
        return broken("numpy is not installed", f"{setup.pip} install numpy")
    return failed(setup, "numpy", f"{setup.pip} install --force-reinstall --no-cache-dir numpy")


def _built_for_another_numpy(setup: Setup) -> Finding | None:
    """Find packages that were built for another NumPy; some of them only print a warning."""
    misfits, fixes = [], set()
    for probe in ("torch", "tensorrt", "onnxruntime", "opencv"):
        result = setup.result(probe)
        keys = ("error", "numpy_error", "output")
        fix = numpy_fix(setup, " ".join(str(result.get(key, "")) for key in keys))
        if fix:
            misfits.append(f"{probe} {result.get('version') or ''}".strip())
            fixes.add(fix)
    if not fixes:
        return None
    version = setup.result("numpy").get("version")
    return broken(
        f"built for another NumPy than {version}, so arrays cannot be passed: {', '.join(misfits)}",
        sorted(fixes)[0],
    )


def _numpy(setup: Setup) -> Finding | None:
    result = setup.result("numpy")
    copies = setup.result("python").get("packages", {}).get("numpy", [])
    hidden = ", ".join(f"{version} in {folder}" for version, folder in copies[1:])
    return ok(f"numpy {result.get('version')}" + (f", hides {hidden}" if hidden else ""))


def _onnxruntime_missing(setup: Setup) -> Finding | None:
    if setup.result("onnxruntime").get("found") is not False:
        return None
    return broken("onnxruntime is not installed", f"{setup.pip} install onnxruntime")


def _onnxruntime_twice(setup: Setup) -> Finding | None:
    both = setup.installed("onnxruntime", "onnxruntime-gpu")
    if len(both) < 2:
        return None
    return broken(
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
        f"{setup.uninstall(*both)} && {_gpu_runtime(setup)}",
    )


def _gpu_runtime(setup: Setup) -> str:
    """Return the command that installs ONNX Runtime for this machine's GPU."""
    if setup.jetpack and setup.jetpack.name.startswith("6."):
        return f"{setup.pip} install onnxruntime-gpu --index-url {jetson_index(setup)}"
    if not setup.has_gpu or (setup.jetpack and not setup.jetpack.runs_tensorrt):
        return f"{setup.pip} install onnxruntime"
    return f"{setup.pip} install onnxruntime-gpu"


def jetson_index(setup: Setup) -> str:
    """Return the community index of CUDA wheels for JetPack 6; its content changes."""
    assert setup.jetpack is not None
    return f"https://pypi.jetson-ai-lab.io/jp6/cu{setup.jetpack.cuda.replace('.', '')}"


def _onnxruntime_fails(setup: Setup) -> Finding | None:
    result = setup.result("onnxruntime")
    reinstall = f"{setup.pip} install --force-reinstall onnxruntime"
    wrong = result.get("failed", {}).get("CPUExecutionProvider")
    if wrong:
        return broken(f"onnxruntime {result.get('version')}: {wrong}", reinstall)
    return failed(setup, "onnxruntime", reinstall)


def _cuda_provider_fails(setup: Setup) -> Finding | None:
    result = setup.result("onnxruntime")
    reason = result.get("failed", {}).get("CUDAExecutionProvider")
    if reason is None:
        return None
    logged = re.search(r"with error: (.*?)(?:\s*$|\n)", str(result.get("output", "")))
    text = f"{logged[1] if logged else ''} {reason}"
    library = re.search(r"lib\w+\.so[.\d]*(?=: cannot open)", text)
    found = f"onnxruntime {result['version']} was built for CUDA, which does not start: " + (
        f"{library[0]} is missing" if library else reason
    )
    if not setup.has_gpu:
        return advice(
            f"{found}; there is no NVIDIA GPU here either",
            f"{setup.uninstall('onnxruntime-gpu')} && {setup.pip} install onnxruntime",
        )
    fix = (
        "sudo apt-get install nvidia-jetpack"
        if setup.is_jetson
        else f"{setup.pip} install 'onnxruntime-gpu[cuda,cudnn]' && export LD_LIBRARY_PATH="
        f"$(ls -d {setup.result('python').get('prefix')}/lib/python{setup.python}/site-packages/"
        "nvidia/*/lib | paste -sd:)"
    )
    return broken(found, fix)


def _onnxruntime(setup: Setup) -> Finding | None:
    result = setup.result("onnxruntime")
    failures = result.get("failed", {})
    short = {
        "CPUExecutionProvider": "cpu",
        "CUDAExecutionProvider": "cuda",
        "TensorrtExecutionProvider": "tensorrt",
    }
    names = [short.get(p, p) for p in result.get("providers", []) if p not in failures]
    listed = [short.get(p, p) for p in failures]
    rest = f"; {', '.join(listed)} is listed, but its libraries are missing" if listed else ""
    return ok(f"onnxruntime {result.get('version')} runs a model on {', '.join(names)}{rest}")


def _opencv_missing(setup: Setup) -> Finding | None:
    if setup.result("opencv").get("found") is not False:
        return None
    system = setup.in_system("cv2")
    if system:
        return advice(
            f"the system's OpenCV in {system} is not visible to this Python", setup.to_see_system()
        )
    return absent(
        "OpenCV is not installed: no cameras, no videos",
        _system_opencv(setup) if setup.is_jetson else f"{setup.pip} install 'plr-edge[video]'",
    )


def _system_opencv(setup: Setup) -> str:
    """Return the command that installs an OpenCV with GStreamer: JetPack's, or Ubuntu's from 7."""
    old = setup.jetpack is not None and setup.jetpack.name < "7"
    return f"sudo apt-get install {'libopencv-python' if old else 'python3-opencv'}"


def _opencv_fails(setup: Setup) -> Finding | None:
    headless = setup.installed(*_OPENCVS) or ["opencv-python-headless"]
    return failed(setup, "opencv", f"{setup.pip} install --force-reinstall {headless[0]}")


def _opencv_hides_the_systems(setup: Setup) -> Finding | None:
    result, system = setup.result("opencv"), setup.in_system("cv2")
    if result.get("gstreamer") or system is None or setup.is_from_system("opencv"):
        return None
    fix = setup.uninstall(*_OPENCVS)
    if not setup.sees_system:
        fix = f"{fix} && {setup.to_see_system()}"
    return advice(
        f"OpenCV {result.get('version')} from pip, without GStreamer, hides the system's in "
        f"{system}: no CSI cameras, no pipelines",
        fix,
    )


def _opencv_without_gstreamer(setup: Setup) -> Finding | None:
    result = setup.result("opencv")
    if result.get("gstreamer") or not setup.is_jetson:
        return None
    installed = setup.installed(*_OPENCVS)
    remove = f"{setup.uninstall(*_OPENCVS)} && " if installed else ""
    return advice(
        f"OpenCV {result.get('version')} was built without GStreamer: no CSI cameras, no pipelines",
        f"{remove}{_system_opencv(setup)}",
    )


def _opencv_twice(setup: Setup) -> Finding | None:
    several = setup.installed(*_OPENCVS)
    if len(several) < 2:
        return None
    return advice(
        f"{' and '.join(several)} are installed and overwrite each other's files",
        f"{setup.uninstall(*several)} && {setup.pip} install opencv-python-headless",
    )


def _opencv(setup: Setup) -> Finding | None:
    result = setup.result("opencv")
    with_or_without = "with" if result.get("gstreamer") else "without"
    source = "the system" if setup.is_from_system("opencv") else "pip"
    return ok(f"OpenCV {result.get('version')} from {source}, {with_or_without} GStreamer")


def _extras(setup: Setup) -> Finding | None:
    """Report the installed extras; those for torch, GPUs and cameras have their own checks."""
    known = setup.result("python").get("extras", {})
    extras = {name: there for name, there in known.items() if name not in _OWN_CHECK}
    if not extras:
        return None
    there = ", ".join(name for name in extras if extras[name]) or "none"
    missing = ",".join(name for name in extras if not extras[name])
    if not missing:
        return ok(f"installed: {there}")
    return absent(
        f"installed: {there}; not: {missing.replace(',', ', ')}",
        f"{setup.pip} install 'plr-edge[{missing}]'",
    )


_OWN_CHECK = {"gpu", "tensorrt", "train", "video"}

CHECKS: dict[str, tuple[Rule, ...]] = {
    "NumPy": (_numpy_fails, _built_for_another_numpy, _numpy),
    "ONNX Runtime": (
        _onnxruntime_missing,
        _onnxruntime_twice,
        _onnxruntime_fails,
        _cuda_provider_fails,
        _onnxruntime,
    ),
    "OpenCV": (
        _opencv_missing,
        _opencv_fails,
        _opencv_hides_the_systems,
        _opencv_without_gstreamer,
        _opencv_twice,
        _opencv,
    ),
    "extras": (_extras,),
}
