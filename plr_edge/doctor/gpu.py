"""Rules about libraries that use the GPU: TensorRT, CUDA for Python, torch."""

from __future__ import annotations

import re

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok
from plr_edge.doctor.packages import failed, jetson_index

_TENSORRTS = tuple(
    f"tensorrt{cuda}{part}"
    for cuda in ("", "-cu12", "-cu13")
    for part in ("", "-bindings", "-libs")
)
_FIRST_PIP_JETPACK = 7  # before it, pip's Arm wheel supports servers, but not Jetsons
_OLDEST_TENSORRT, _OLDEST_TORCH = (8, 6), (2, 3)


def _version(text: object) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(text))[:2])


def _tensorrt_hidden(setup: Setup) -> Finding | None:
    system = setup.in_system("tensorrt")
    if setup.result("tensorrt").get("found") is not False or system is None:
        return None
    if setup.jetpack is not None and not setup.jetpack.runs_tensorrt:
        return None
    return broken(
        f"the system's TensorRT in {system} is not visible to this Python", setup.to_see_system()
    )


def _tensorrt_missing(setup: Setup) -> Finding | None:
    if setup.result("tensorrt").get("found") is not False:
        return None
    if setup.jetpack is not None and setup.jetpack.runs_tensorrt:
        return advice(
            f"TensorRT is not installed, but JetPack {setup.jetpack.title} provides it",
            "sudo apt-get install tensorrt python3-libnvinfer",
        )
    if setup.jetpack is not None:
        return absent(f"not available for Python {setup.python} on JetPack {setup.jetpack.title}")
    if setup.has_gpu:
        return absent("not installed", f"{setup.pip} install 'plr-edge[tensorrt]'")
    return absent("not installed, and there is no NVIDIA GPU")


def _tensorrt_from_pip(setup: Setup) -> Finding | None:
    jetpack = setup.jetpack
    if jetpack is None or _version(jetpack.name)[0] >= _FIRST_PIP_JETPACK:
        return None
    if setup.is_from_system("tensorrt"):
        return None
    fix = setup.uninstall(*_TENSORRTS)
    if not setup.sees_system:
        fix = f"{fix} && {setup.to_see_system()}"
    return broken(
        f"TensorRT {setup.result('tensorrt').get('version') or ''} from pip is for servers and "
        f"does not support Jetsons; JetPack {jetpack.title} has {jetpack.tensorrt}".replace(
            "  ", " "
        ),
        fix,
    )


def _tensorrt_too_old(setup: Setup) -> Finding | None:
    version = setup.result("tensorrt").get("version")
    if not version or _version(version) >= _OLDEST_TENSORRT:
        return None
    return broken(
        f"TensorRT {version}; 8.6 or newer is needed",
        "flash JetPack 6 or newer" if setup.is_jetson else f"{setup.pip} install -U tensorrt",
    )


def _tensorrt_without_gpu(setup: Setup) -> Finding | None:
    result = setup.result("tensorrt")
    if setup.has_gpu or "error" not in result:
        return None
    return absent(f"installed, but there is no NVIDIA GPU: {result['error']}")


def _tensorrt_fails(setup: Setup) -> Finding | None:
    if setup.result("tensorrt").get("version"):  # it can be imported, but CUDA does not start
        return failed(setup, "tensorrt", _driver(setup))
    reinstall = f"{setup.pip} install --force-reinstall 'plr-edge[tensorrt]'"
    if setup.is_from_system("tensorrt"):
        reinstall = "sudo apt-get install --reinstall tensorrt python3-libnvinfer"
    return failed(setup, "tensorrt", reinstall)


def _tensorrt(setup: Setup) -> Finding | None:
    result = setup.result("tensorrt")
    source = "from the system" if setup.is_from_system("tensorrt") else "from pip"
    return ok(f"TensorRT {result.get('version')} {source} loads and starts")


def _cuda_python_not_needed(setup: Setup) -> Finding | None:
    if setup.result("tensorrt").get("found") and setup.has_gpu:
        return None
    return absent("not needed: only TensorRT in a process without torch uses it")


def _cuda_python_missing(setup: Setup) -> Finding | None:
    if setup.result("cuda-python").get("found") is not False:
        return None
    return advice(
        "cuda-bindings is not installed; perception runs without torch and needs it for "
        "--engine tensorrt",
        _cuda_bindings(setup),
    )


def _cuda_bindings(setup: Setup) -> str:
    if setup.jetpack is None:
        return f"{setup.pip} install 'plr-edge[tensorrt]'"
    return f"{setup.pip} install 'cuda-bindings=={_version(setup.jetpack.cuda)[0]}.*'"


def _cuda_python_for_another_cuda(setup: Setup) -> Finding | None:
    version = setup.result("cuda-python").get("version")
    if setup.jetpack is None or not version:
        return None
    if _version(version)[0] == _version(setup.jetpack.cuda)[0]:
        return None
    return broken(
        f"cuda-bindings {version} does not match JetPack's CUDA {setup.jetpack.cuda}",
        _cuda_bindings(setup),
    )


def _cuda_python_fails(setup: Setup) -> Finding | None:
    result = setup.result("cuda-python")
    status = result.get("status", "cudaSuccess")
    if status != "cudaSuccess":
        return broken(f"CUDA reports {status}", _driver(setup))
    started = result.get("version") is not None
    return failed(setup, "cuda-python", _driver(setup) if started else _cuda_bindings(setup))


def _driver(setup: Setup) -> str:
    if setup.in_container:
        return "add `--runtime nvidia` (Jetson) or `--gpus all` to `docker run`"
    if setup.is_jetson:
        return "sudo dmesg | grep -i nv  # shows the cause; then reboot"
    return "nvidia-smi  # shows the cause; the driver must be as new as the CUDA of the package"


def _cuda_python(setup: Setup) -> Finding | None:
    result = setup.result("cuda-python")
    return ok(f"cuda-bindings {result.get('version')}, {result.get('n_gpus')} GPU")


def _torch_missing(setup: Setup) -> Finding | None:
    if setup.result("torch").get("found") is not False:
        return None
    if setup.result("python").get("extras", {}).get("serve"):  # `plr-edge run` has a trainer
        return broken("torch is not installed: nothing can be trained", _torch_wheel(setup))
    return absent("torch is not installed: this machine answers, and trains nothing",
                  _torch_wheel(setup))  # fmt: skip


def _torch_wheel(setup: Setup) -> str:
    """Return the command that installs a torch for this machine."""
    if setup.jetpack and setup.jetpack.name.startswith("6."):
        return (
            f"{setup.pip} install --force-reinstall --no-deps torch "
            f"--index-url {jetson_index(setup)}"
        )
    if setup.has_gpu and not (setup.jetpack and not setup.jetpack.runs_tensorrt):
        return f"{setup.pip} install --force-reinstall torch"
    return f"{setup.pip} install torch --index-url https://download.pytorch.org/whl/cpu"


def _torch_import_fails(setup: Setup) -> Finding | None:
    return None if "cuda" in setup.result("torch") else failed(setup, "torch", _torch_wheel(setup))


def _torch_too_old(setup: Setup) -> Finding | None:
    version = setup.result("torch").get("version")
    if _version(version) >= _OLDEST_TORCH:
        return None
    return broken(f"torch {version}; 2.3 or newer is needed", _torch_wheel(setup))


def _torch_for_another_cuda(setup: Setup) -> Finding | None:
    """Find a build from pip that replaced the one for this JetPack."""
    result = setup.result("torch")
    if setup.jetpack is None or not result.get("cuda"):
        return None
    if _version(result["cuda"])[0] == _version(setup.jetpack.cuda)[0]:
        return None
    return broken(
        f"torch {result['version']} is built for CUDA {result['cuda']}, but JetPack "
        f"{setup.jetpack.title} has {setup.jetpack.cuda}: pip has replaced JetPack's build",
        _torch_wheel(setup),
    )


def _torch_for_cpus(setup: Setup) -> Finding | None:
    result = setup.result("torch")
    if result.get("cuda") or not setup.has_gpu or "error" in result:
        return None
    if setup.jetpack is not None and not setup.jetpack.runs_tensorrt:
        return None  # no other build exists for such a board
    return advice(
        f"torch {result['version']} is built for CPUs: training cannot use the GPU",
        _torch_wheel(setup),
    )


def _torch_cannot_use_gpu(setup: Setup) -> Finding | None:
    result = setup.result("torch")
    if not setup.has_gpu or result.get("reachable") is not False:
        return None
    return broken(
        f"torch {result['version']} (CUDA {result['cuda']}) cannot use the GPU: "
        f"{result.get('cuda_error')}",
        _driver(setup),
    )


def _torch_has_no_kernels(setup: Setup) -> Finding | None:
    result = setup.result("torch")
    if "no kernel image" not in str(result.get("error")):
        return None
    built = ", ".join(result.get("architectures", []))
    return broken(
        f"torch {result['version']} has no kernels for {result['gpu']} "
        f"(sm_{str(result['capability']).replace('.', '')}), only for {built}",
        _torch_wheel(setup),
    )


def _torch_operation_fails(setup: Setup) -> Finding | None:
    result = setup.result("torch")
    if "out of memory" in str(result.get("error")):
        return broken(
            f"torch {result['version']}: {result['error']}",
            "stop other programs that use the GPU's memory",
        )
    return failed(setup, "torch", _driver(setup))


def _torch(setup: Setup) -> Finding | None:
    result = setup.result("torch")
    if result.get("reachable"):
        return ok(f"torch {result['version']} (CUDA {result['cuda']}) computes on {result['gpu']}")
    build = f"CUDA {result['cuda']}, no GPU here" if result.get("cuda") else "CPU only"
    return ok(f"torch {result.get('version')} ({build})")


CHECKS: dict[str, tuple[Rule, ...]] = {
    "TensorRT": (
        _tensorrt_hidden,
        _tensorrt_missing,
        _tensorrt_from_pip,
        _tensorrt_too_old,
        _tensorrt_without_gpu,
        _tensorrt_fails,
        _tensorrt,
    ),
    "CUDA for Python": (
        _cuda_python_not_needed,
        _cuda_python_missing,
        _cuda_python_for_another_cuda,
        _cuda_python_fails,
        _cuda_python,
    ),
    "torch": (
        _torch_missing,
        _torch_import_fails,
        _torch_too_old,
        _torch_for_another_cuda,
        _torch_for_cpus,
        _torch_cannot_use_gpu,
        _torch_has_no_kernels,
        _torch_operation_fails,
        _torch,
    ),
}
