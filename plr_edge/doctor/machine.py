"""Rules about the machine: board, JetPack, Python, device files and power mode."""

from __future__ import annotations

import re

from plr_edge.doctor.base import Finding, Rule, Setup, absent, advice, broken, ok, size
from plr_edge.meters.board import power_modes

# JetPack by the kernel version of a Jetson
_KERNELS = {"4.9": "4", "5.10": "5", "5.15": "6"}
_FIRST_KERNEL_OF_7 = (6, 8)


def _device_tree_hidden(setup: Setup) -> Finding | None:
    if not setup.is_jetson or setup.machine.get("board_model") or setup.board:
        return None
    return advice(
        f"the kernel ({setup.kernel}) is that of a Jetson, but the device tree cannot be read, so "
        "the board is unknown",
        "add `--security-opt systempaths=unconfined` to `docker run`, or name the board: "
        "plr-edge run --board NAME",
    )


def _unknown_board(setup: Setup) -> Finding | None:
    model = setup.machine.get("board_model")
    if not model or setup.board:
        return None
    return advice(
        f"{model} is not a known board, so there is no default budget",
        "plr-edge run --duty 50% --memory-limit 700MB --deadline 66ms, or --board NAME of a "
        "similar one",
    )


def _board(setup: Setup) -> Finding | None:
    title = setup.board.title if setup.board else f"{setup.machine['arch']} computer"
    parts = [title]
    if "n_cores" in setup.machine:
        parts.append(f"{setup.machine['n_cores']} cores")
    if setup.total_bytes is not None:
        parts.append(f"{size(setup.total_bytes)} of memory")
    return ok(", ".join(parts) + (", in a container" if setup.in_container else ""))


def _not_a_jetson(setup: Setup) -> Finding | None:
    return None if setup.is_jetson else absent("not a Jetson")


def _release_hidden(setup: Setup) -> Finding | None:
    if "l4t_release" in setup.machine:
        return None
    jetpack = _jetpack_of_kernel(setup.kernel)
    guess = f"; the kernel ({setup.kernel}) is that of JetPack {jetpack}" if jetpack else ""
    return advice(
        f"/etc/nv_tegra_release cannot be read, so the JetPack version is unknown{guess}",
        "add `-v /etc/nv_tegra_release:/etc/nv_tegra_release:ro` to `docker run`"
        if setup.in_container
        else "sudo apt-get install --reinstall nvidia-l4t-core",
    )


def _jetpack_of_kernel(kernel: str) -> str | None:
    numbers = re.match(r"(\d+)\.(\d+)\..*-tegra$", kernel)
    if numbers is None:
        return None
    if (int(numbers[1]), int(numbers[2])) >= _FIRST_KERNEL_OF_7:
        return "7"
    return _KERNELS.get(f"{numbers[1]}.{numbers[2]}")


def _unknown_release(setup: Setup) -> Finding | None:
    if setup.jetpack is not None:
        return None
    return advice(
        f"L4T {setup.machine['l4t_release']} belongs to an unknown JetPack",
        "a newer plr-edge may know it; if in doubt, use --engine onnx",
    )


def _jetpack_too_old(setup: Setup) -> Finding | None:
    """Find a JetPack whose Python is too old for plr-edge."""
    assert setup.jetpack is not None
    if setup.jetpack.runs_tensorrt:
        return None
    newer = [j.name for j in (setup.board.jetpacks if setup.board else ()) if j.runs_tensorrt]
    found = (
        f"{_release(setup)}: its TensorRT {setup.jetpack.tensorrt} and CUDA packages are built for "
        f"Python {setup.jetpack.python}, and plr-edge needs 3.10"
    )
    if newer:
        return advice(found, f"flash JetPack {newer[-1]} with NVIDIA's SDK Manager")
    return advice(
        f"{found}; this board has no newer JetPack",
        "use --engine onnx, which runs on the CPU",
    )


def _jetpack(setup: Setup) -> Finding | None:
    assert setup.jetpack is not None
    j = setup.jetpack
    return ok(f"{_release(setup)}: Python {j.python}, CUDA {j.cuda}, TensorRT {j.tensorrt}")


def _release(setup: Setup) -> str:
    assert setup.jetpack is not None
    return f"JetPack {setup.jetpack.title} (L4T {setup.machine['l4t_release']})"


def _other_python(setup: Setup) -> Finding | None:
    jetpack = setup.jetpack
    if jetpack is None or not jetpack.runs_tensorrt or jetpack.python == setup.python:
        return None
    return advice(
        f"Python {setup.python}, but JetPack {jetpack.title} builds TensorRT, OpenCV and its CUDA "
        f"packages for {jetpack.python}: they cannot be imported here",
        setup.to_see_system(),
    )


def _python(setup: Setup) -> Finding | None:
    python = setup.result("python")
    environment = ""
    if python.get("venv"):
        sees = "sees" if setup.sees_system else "does not see"
        environment = f"; the virtual environment {sees} the system's packages"
    version, executable = python.get("version", "unknown"), python.get("executable", "")
    return ok(f"Python {version}, {executable}{environment}")


def _no_gpu_in_container(setup: Setup) -> Finding | None:
    gpu_files = ("dev/nvmap", "dev/nvhost-ctrl-gpu", "dev/nvgpu", "dev/nvidia0", "dev/nvidiactl")
    if not (setup.is_jetson and setup.in_container):
        return None
    if any((setup.root / path).exists() for path in gpu_files):
        return None
    return broken(
        "this container has no device file of the Jetson's GPU",
        "add `--runtime nvidia` to `docker run`",
    )


def _locked(setup: Setup) -> Finding | None:
    if not setup.locked:
        return None
    groups = [
        group for group in ("video", "render") if f"\n{group}:" in f"\n{setup.text('etc/group')}"
    ]
    found = f"this user may not open {', '.join(sorted(setup.locked))}"
    fix = f'sudo usermod -aG {",".join(groups) or "video"} "$USER"  # and log in again'
    gpu = any("/dev/nv" in path for path in setup.locked)
    return broken(f"{found}, so CUDA cannot start", fix) if gpu else advice(found, fix)


def _devices(setup: Setup) -> Finding | None:
    cameras = [f"/dev/{path.name}" for path in sorted(setup.root.glob("dev/video[0-9]*"))]
    return ok(f"cameras: {', '.join(cameras) or 'none in /dev'}")


def _low_power_mode(setup: Setup) -> Finding | None:
    mode, budget_w = setup.machine.get("power_mode"), setup.board and setup.board.budget.power_w
    watts = _watts(str(mode))
    if not budget_w or watts is None or watts >= budget_w:
        return None
    found = f"power mode {mode} is below the default budget of this board, {budget_w:g} W"
    better = [
        (_watts(name) or float("inf"), number)
        for number, name in power_modes(setup.root).items()
        if (_watts(name) or float("inf")) >= budget_w
    ]
    number = str(min(better)[1]) if better else "NUMBER  # a mode in /etc/nvpmodel.conf"
    return advice(found, f"sudo nvpmodel -m {number}")


def _watts(mode: str) -> float | None:
    number = re.match(r"(\d+)W", mode)
    return float(number[1]) if number else None


def _power_mode(setup: Setup) -> Finding | None:
    if "power_mode" not in setup.machine:
        return None
    clocks = setup.machine.get("clocks")
    texts = {
        "held": ", clocks fixed",
        "free": ", clocks variable (`sudo jetson_clocks` fixes them)",
    }
    return ok(f"power mode {setup.machine['power_mode']}{texts.get(str(clocks), '')}")


def _throttled(setup: Setup) -> Finding | None:
    if "throttled_by" not in setup.machine:
        return None
    return advice(
        f"the clocks are currently lowered by {setup.machine['throttled_by']}",
        "add cooling, a stronger supply or a lower power mode; then profile again",
    )


CHECKS: dict[str, tuple[Rule, ...]] = {
    "board": (_device_tree_hidden, _unknown_board, _board),
    "JetPack": (
        _not_a_jetson,
        _release_hidden,
        _unknown_release,
        _jetpack_too_old,
        _jetpack,
    ),
    "Python": (_other_python, _python),
    "devices": (_no_gpu_in_container, _locked, _devices),
    "power mode": (_low_power_mode, _power_mode),
    "throttling": (_throttled,),
}
