"""Rules about what uses the GPU: TensorRT, CUDA for Python, torch."""

from __future__ import annotations

import re

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok
from plr_edge.doctor.packages import failed, jetson_index

_TENSORRTS = tuple(
    f"tensorrt{cuda}{part}"
    for cuda in ("", "-cu12", "-cu13")
    for part in ("", "-bindings", "-libs")
)
_FIRST_PIP_JETPACK = 7  # before it, pip's Arm wheel is made for servers and knows no Jetson
_OLDEST_TENSORRT, _OLDEST_TORCH = (8, 6), (2, 3)


def _version(text: object) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(text))[:2])


def _tensorrt_hidden(setup: Setup) -> Finding | None:
    system = setup.in_system("tensorrt")
    if setup.answer("tensorrt").get("found") is not False or system is None:
        return None
    if setup.jetpack is not None and not setup.jetpack.runs_tensorrt:
        return None
    return broken(
        f"the system's TensorRT in {system} is hidden from this Python", setup.to_see_system()
    )


def _tensorrt_missing(setup: Setup) -> Finding | None:
    if setup.answer("tensorrt").get("found") is not False:
        return None
    if setup.jetpack is not None and setup.jetpack.runs_tensorrt:
        return advice(
            f"TensorRT is not installed, though JetPack {setup.jetpack.title} brings it",
            "sudo apt-get install tensorrt python3-libnvinfer",
        )
    if setup.jetpack is not None:
        return absent(f"none for Python {setup.python} on JetPack {setup.jetpack.title}")
    if setup.has_gpu:
        return absent("not installed", f"{setup.pip} install 'plr-edge[tensorrt]'")
    return absent("not installed, and there is no NVIDIA GPU")


def _tensorrt_of_pip(setup: Setup) -> Finding | None:
    jetpack = setup.jetpack
    if jetpack is None or _version(jetpack.name)[0] >= _FIRST_PIP_JETPACK:
        return None
    if setup.is_of_system("tensorrt"):
        return None
    mend = setup.uninstall(*_TENSORRTS)
    if not setup.sees_system:
        mend = f"{mend} && {setup.to_see_system()}"
    return broken(
        f"TensorRT {setup.answer('tensorrt').get('version') or ''} of pip is made for servers and "
        f"knows no Jetson; JetPack {jetpack.title} brings {jetpack.tensorrt}".replace("  ", " "),
        mend,
    )


def _tensorrt_too_old(setup: Setup) -> Finding | None:
    version = setup.answer("tensorrt").get("version")
    if not version or _version(version) >= _OLDEST_TENSORRT:
        return None
    return broken(
        f"TensorRT {version}; 8.6 or newer is needed",
        "flash JetPack 6 or newer" if setup.is_jetson else f"{setup.pip} install -U tensorrt",
    )


def _tensorrt_without_gpu(setup: Setup) -> Finding | None:
    answer = setup.answer("tensorrt")
    if setup.has_gpu or "error" not in answer:
        return None
    return absent(f"installed, but there is no NVIDIA GPU: {answer['error']}")


def _tensorrt_fails(setup: Setup) -> Finding | None:
    if setup.answer("tensorrt").get("version"):  # it is imported, but starts no CUDA
        return failed(setup, "tensorrt", _driver(setup))
    reinstall = f"{setup.pip} install --force-reinstall 'plr-edge[tensorrt]'"
    if setup.is_of_system("tensorrt"):
        reinstall = "sudo apt-get install --reinstall tensorrt python3-libnvinfer"
    return failed(setup, "tensorrt", reinstall)


def _tensorrt(setup: Setup) -> Finding | None:
    answer = setup.answer("tensorrt")
    whose = "the system's" if setup.is_of_system("tensorrt") else "pip's"
    return ok(f"TensorRT {answer.get('version')}, {whose}, loads and makes a runtime")


def _cuda_python_not_needed(setup: Setup) -> Finding | None:
    if setup.answer("tensorrt").get("found") and setup.has_gpu:
        return None
    return absent("not needed: it is for TensorRT in a process without torch")


def _cuda_python_missing(setup: Setup) -> Finding | None:
    if setup.answer("cuda-python").get("found") is not False:
        return None
    return advice(
        "cuda-bindings is not installed; perception, which has no torch, needs it for "
        "--engine tensorrt",
        _cuda_bindings(setup),
    )


def _cuda_bindings(setup: Setup) -> str:
    if setup.jetpack is None:
        return f"{setup.pip} install 'plr-edge[tensorrt]'"
    return f"{setup.pip} install 'cuda-bindings=={_version(setup.jetpack.cuda)[0]}.*'"


def _cuda_python_of_another_cuda(setup: Setup) -> Finding | None:
    version = setup.answer("cuda-python").get("version")
    if setup.jetpack is None or not version:
        return None
    if _version(version)[0] == _version(setup.jetpack.cuda)[0]:
        return None
    return broken(
        f"cuda-bindings {version} is for another CUDA than JetPack's {setup.jetpack.cuda}",
        _cuda_bindings(setup),
    )


def _cuda_python_fails(setup: Setup) -> Finding | None:
    answer = setup.answer("cuda-python")
    status = answer.get("status", "cudaSuccess")
    if status != "cudaSuccess":
        return broken(f"CUDA says {status}", _driver(setup))
    started = answer.get("version") is not None
    return failed(setup, "cuda-python", _driver(setup) if started else _cuda_bindings(setup))


def _driver(setup: Setup) -> str:
    if setup.in_container:
        return "add `--runtime nvidia` (Jetson) or `--gpus all` to `docker run`"
    if setup.is_jetson:
        return "sudo dmesg | grep -i nv  # says why; then reboot"
    return "nvidia-smi  # says why; a driver as new as the CUDA of the package is needed"


def _cuda_python(setup: Setup) -> Finding | None:
    answer = setup.answer("cuda-python")
    return ok(f"cuda-bindings {answer.get('version')}, {answer.get('n_gpus')} GPU")


def _torch_missing(setup: Setup) -> Finding | None:
    if setup.answer("torch").get("found") is not False:
        return None
    if setup.answer("python").get("extras", {}).get("serve"):  # `plr-edge run` has a trainer
        return broken("torch is not installed: nothing can be trained", _torch_wheel(setup))
    return absent("torch is not installed: this machine answers, and trains nothing",
                  _torch_wheel(setup))  # fmt: skip


def _torch_wheel(setup: Setup) -> str:
    """Return the command that installs a torch which fits this machine."""
    if setup.jetpack and setup.jetpack.name.startswith("6."):
        return (
            f"{setup.pip} install --force-reinstall --no-deps torch "
            f"--index-url {jetson_index(setup)}"
        )
    if setup.has_gpu and not (setup.jetpack and not setup.jetpack.runs_tensorrt):
        return f"{setup.pip} install --force-reinstall torch"
    return f"{setup.pip} install torch --index-url https://download.pytorch.org/whl/cpu"


def _torch_import_fails(setup: Setup) -> Finding | None:
    return None if "cuda" in setup.answer("torch") else failed(setup, "torch", _torch_wheel(setup))


def _torch_too_old(setup: Setup) -> Finding | None:
    version = setup.answer("torch").get("version")
    if _version(version) >= _OLDEST_TORCH:
        return None
    return broken(f"torch {version}; 2.3 or newer is needed", _torch_wheel(setup))


def _torch_of_another_cuda(setup: Setup) -> Finding | None:
    """Find the build that pip puts in place of the one for this JetPack."""
    answer = setup.answer("torch")
    if setup.jetpack is None or not answer.get("cuda"):
        return None
    if _version(answer["cuda"])[0] == _version(setup.jetpack.cuda)[0]:
        return None
    return broken(
        f"torch {answer['version']} is built for CUDA {answer['cuda']}, but JetPack "
        f"{setup.jetpack.title} has {setup.jetpack.cuda}: pip has replaced JetPack's build",
        _torch_wheel(setup),
    )


def _torch_for_processors(setup: Setup) -> Finding | None:
    answer = setup.answer("torch")
    if answer.get("cuda") or not setup.has_gpu or "error" in answer:
        return None
    if setup.jetpack is not None and not setup.jetpack.runs_tensorrt:
        return None  # there is no other build for such a board
    return advice(
        f"torch {answer['version']} is built for processors: training cannot use the GPU",
        _torch_wheel(setup),
    )


def _torch_reaches_no_gpu(setup: Setup) -> Finding | None:
    answer = setup.answer("torch")
    if not setup.has_gpu or answer.get("reachable") is not False:
        return None
    return broken(
        f"torch {answer['version']} (CUDA {answer['cuda']}) reaches no GPU: "
        f"{answer.get('cuda_error')}",
        _driver(setup),
    )


def _torch_has_no_kernels(setup: Setup) -> Finding | None:
    answer = setup.answer("torch")
    if "no kernel image" not in str(answer.get("error")):
        return None
    built = ", ".join(answer.get("architectures", []))
    return broken(
        f"torch {answer['version']} has no kernels for {answer['gpu']} "
        f"(sm_{str(answer['capability']).replace('.', '')}), only for {built}",
        _torch_wheel(setup),
    )


def _torch_operation_fails(setup: Setup) -> Finding | None:
    answer = setup.answer("torch")
    if "out of memory" in str(answer.get("error")):
        return broken(
            f"torch {answer['version']}: {answer['error']}", "stop what else uses the GPU's memory"
        )
    return failed(setup, "torch", _driver(setup))


def _torch(setup: Setup) -> Finding | None:
    answer = setup.answer("torch")
    if answer.get("reachable"):
        return ok(f"torch {answer['version']} (CUDA {answer['cuda']}) computes on {answer['gpu']}")
    build = f"CUDA {answer['cuda']}, no GPU here" if answer.get("cuda") else "processors only"
    return ok(f"torch {answer.get('version')} ({build})")


CHECKS: dict[str, tuple[Rule, ...]] = {
    "TensorRT": (
        _tensorrt_hidden,
        _tensorrt_missing,
        _tensorrt_of_pip,
        _tensorrt_too_old,
        _tensorrt_without_gpu,
        _tensorrt_fails,
        _tensorrt,
    ),
    "CUDA for Python": (
        _cuda_python_not_needed,
        _cuda_python_missing,
        _cuda_python_of_another_cuda,
        _cuda_python_fails,
        _cuda_python,
    ),
    "torch": (
        _torch_missing,
        _torch_import_fails,
        _torch_too_old,
        _torch_of_another_cuda,
        _torch_for_processors,
        _torch_reaches_no_gpu,
        _torch_has_no_kernels,
        _torch_operation_fails,
        _torch,
    ),
}
