"""Rules about packages: NumPy, ONNX Runtime, OpenCV, the optional extras."""

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
# looked for in this order: what is built for NumPy 1 fails with the words of the second one, too
_BUILT_FOR_NUMPY_1 = re.compile(
    r"compiled using NumPy 1\.x|_ARRAY_API not found|Numpy is not available"
)
_BUILT_FOR_NEWER_NUMPY = re.compile(
    r"No module named 'numpy\._core|compiled against (NumPy C-)?A[BP]I version|"
    r"numpy\.core\.multiarray failed to import"
)


def failed(setup: Setup, probe: str, reinstall: str) -> Finding | None:
    """Return that a package cannot be used, with what mends it; None where it can.

    Args:
        setup: of the machine.
        probe: which tried it.
        reinstall: the command where the error says nothing better.
    """
    answer = setup.answer(probe)
    if "error" not in answer:
        return None
    error = str(answer["error"])
    text = f"{error} {answer.get('said', '')}"
    static_tls = _STATIC_TLS.search(text)
    mend = reinstall
    if numpy_mend(setup, text):
        mend = numpy_mend(setup, text) or reinstall
    elif static_tls:
        mend = f"export LD_PRELOAD={static_tls[1]}  # before plr-edge is started"
    else:
        for library, command in _NEEDS_SYSTEM_LIBRARY.items():
            if f"{library}" in error:
                mend = command.format(pip=setup.pip)
    name = " ".join(filter(None, [probe, answer.get("version")]))
    return broken(f"{name} cannot be used: {error}", mend)


def numpy_mend(setup: Setup, text: str) -> str | None:
    """Return what mends a package that was built for another NumPy; None where it was not."""
    if _BUILT_FOR_NUMPY_1.search(text):
        return f"{setup.pip} install 'numpy<2'"
    if _BUILT_FOR_NEWER_NUMPY.search(text):
        return f"{setup.pip} install --upgrade numpy"
    return None


def _numpy_fails(setup: Setup) -> Finding | None:
    if setup.answer("numpy").get("found") is False:
        return broken("numpy is not installed", f"{setup.pip} install numpy")
    return failed(setup, "numpy", f"{setup.pip} install --force-reinstall --no-cache-dir numpy")


def _numpy_of_another_abi(setup: Setup) -> Finding | None:
    """Find packages that were built for another NumPy; some of them only warn."""
    misfits, mends = [], set()
    for probe in ("torch", "tensorrt", "onnxruntime", "opencv"):
        answer = setup.answer(probe)
        keys = ("error", "numpy_error", "said")
        mend = numpy_mend(setup, " ".join(str(answer.get(key, "")) for key in keys))
        if mend:
            misfits.append(f"{probe} {answer.get('version') or ''}".strip())
            mends.add(mend)
    if not mends:
        return None
    version = setup.answer("numpy").get("version")
    return broken(
        f"built for another NumPy than {version}, so that no array can be handed over: "
        f"{', '.join(misfits)}",
        sorted(mends)[0],
    )


def _numpy(setup: Setup) -> Finding | None:
    answer = setup.answer("numpy")
    copies = setup.answer("python").get("packages", {}).get("numpy", [])
    hidden = ", ".join(f"{version} in {folder}" for version, folder in copies[1:])
    return ok(f"numpy {answer.get('version')}" + (f", hides {hidden}" if hidden else ""))


def _onnxruntime_missing(setup: Setup) -> Finding | None:
    if setup.answer("onnxruntime").get("found") is not False:
        return None
    return broken("onnxruntime is not installed", f"{setup.pip} install onnxruntime")


def _onnxruntime_twice(setup: Setup) -> Finding | None:
    both = setup.installed("onnxruntime", "onnxruntime-gpu")
    if len(both) < 2:
        return None
    return broken(
        "onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files",
        f"{setup.uninstall(*both)} && {_gpu_runtime(setup)}",
    )


def _gpu_runtime(setup: Setup) -> str:
    """Return the command that installs ONNX Runtime for the GPU that is here."""
    if setup.jetpack and setup.jetpack.name.startswith("6."):
        return f"{setup.pip} install onnxruntime-gpu --index-url {jetson_index(setup)}"
    if not setup.has_gpu or (setup.jetpack and not setup.jetpack.runs_tensorrt):
        return f"{setup.pip} install onnxruntime"
    return f"{setup.pip} install onnxruntime-gpu"


def jetson_index(setup: Setup) -> str:
    """Return the community's index of CUDA wheels for JetPack 6; its content comes and goes."""
    assert setup.jetpack is not None
    return f"https://pypi.jetson-ai-lab.io/jp6/cu{setup.jetpack.cuda.replace('.', '')}"


def _onnxruntime_fails(setup: Setup) -> Finding | None:
    answer = setup.answer("onnxruntime")
    reinstall = f"{setup.pip} install --force-reinstall onnxruntime"
    wrong = answer.get("failed", {}).get("CPUExecutionProvider")
    if wrong:
        return broken(f"onnxruntime {answer.get('version')}: {wrong}", reinstall)
    return failed(setup, "onnxruntime", reinstall)


def _cuda_provider_fails(setup: Setup) -> Finding | None:
    answer = setup.answer("onnxruntime")
    reason = answer.get("failed", {}).get("CUDAExecutionProvider")
    if reason is None:
        return None
    said = re.search(r"with error: (.*?)(?:\s*$|\n)", str(answer.get("said", "")))
    library = re.search(r"lib\w+\.so[.\d]*(?=: cannot open)", f"{said[1] if said else ''} {reason}")
    found = f"onnxruntime {answer['version']} was built for CUDA, which does not start: " + (
        f"{library[0]} is missing" if library else reason
    )
    if not setup.has_gpu:
        return advice(
            f"{found}; there is no NVIDIA GPU here either",
            f"{setup.uninstall('onnxruntime-gpu')} && {setup.pip} install onnxruntime",
        )
    mend = (
        "sudo apt-get install nvidia-jetpack"
        if setup.is_jetson
        else f"{setup.pip} install 'onnxruntime-gpu[cuda,cudnn]' && export LD_LIBRARY_PATH="
        f"$(ls -d {setup.answer('python').get('prefix')}/lib/python{setup.python}/site-packages/"
        "nvidia/*/lib | paste -sd:)"
    )
    return broken(found, mend)


def _onnxruntime(setup: Setup) -> Finding | None:
    answer = setup.answer("onnxruntime")
    failures = answer.get("failed", {})
    short = {
        "CPUExecutionProvider": "cpu",
        "CUDAExecutionProvider": "cuda",
        "TensorrtExecutionProvider": "tensorrt",
    }
    names = [short.get(p, p) for p in answer.get("providers", []) if p not in failures]
    listed = [short.get(p, p) for p in failures]
    rest = f"; {', '.join(listed)} is listed, but its libraries are not here" if listed else ""
    return ok(f"onnxruntime {answer.get('version')} runs a model on {', '.join(names)}{rest}")


def _opencv_missing(setup: Setup) -> Finding | None:
    if setup.answer("opencv").get("found") is not False:
        return None
    system = setup.in_system("cv2")
    if system:
        return advice(
            f"the system's OpenCV in {system} is hidden from this Python", setup.to_see_system()
        )
    return absent(
        "OpenCV is not installed: no cameras, no films",
        _system_opencv(setup) if setup.is_jetson else f"{setup.pip} install 'plr-edge[video]'",
    )


def _system_opencv(setup: Setup) -> str:
    """Return the command for an OpenCV with GStreamer; JetPack's own up to 6, Ubuntu's from 7."""
    ours = setup.jetpack is not None and setup.jetpack.name < "7"
    return f"sudo apt-get install {'libopencv-python' if ours else 'python3-opencv'}"


def _opencv_fails(setup: Setup) -> Finding | None:
    headless = setup.installed(*_OPENCVS) or ["opencv-python-headless"]
    return failed(setup, "opencv", f"{setup.pip} install --force-reinstall {headless[0]}")


def _opencv_hides_that_of_the_system(setup: Setup) -> Finding | None:
    answer, system = setup.answer("opencv"), setup.in_system("cv2")
    if answer.get("gstreamer") or system is None or setup.is_of_system("opencv"):
        return None
    mend = setup.uninstall(*_OPENCVS)
    if not setup.sees_system:
        mend = f"{mend} && {setup.to_see_system()}"
    return advice(
        f"OpenCV {answer.get('version')} of pip, without GStreamer, hides that of the system in "
        f"{system}: no CSI camera, no pipeline",
        mend,
    )


def _opencv_without_gstreamer(setup: Setup) -> Finding | None:
    answer = setup.answer("opencv")
    if answer.get("gstreamer") or not setup.is_jetson:
        return None
    installed = setup.installed(*_OPENCVS)
    remove = f"{setup.uninstall(*_OPENCVS)} && " if installed else ""
    return advice(
        f"OpenCV {answer.get('version')} was built without GStreamer: no CSI camera, no pipeline",
        f"{remove}{_system_opencv(setup)}",
    )


def _opencv_twice(setup: Setup) -> Finding | None:
    several = setup.installed(*_OPENCVS)
    if len(several) < 2:
        return None
    return advice(
        f"{' and '.join(several)} are installed, and overwrite each other's files",
        f"{setup.uninstall(*several)} && {setup.pip} install opencv-python-headless",
    )


def _opencv(setup: Setup) -> Finding | None:
    answer = setup.answer("opencv")
    kind = "with" if answer.get("gstreamer") else "without"
    whose = "the system's" if setup.is_of_system("opencv") else "pip's"
    return ok(f"OpenCV {answer.get('version')}, {whose}, {kind} GStreamer")


def _extras(setup: Setup) -> Finding | None:
    """Say which extras are there; those of torch, a GPU and cameras have checks of their own."""
    known = setup.answer("python").get("extras", {})
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
    "NumPy": (_numpy_fails, _numpy_of_another_abi, _numpy),
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
        _opencv_hides_that_of_the_system,
        _opencv_without_gstreamer,
        _opencv_twice,
        _opencv,
    ),
    "extras": (_extras,),
}
