"""Every broken setup is reported with its fix, and nothing else is.

Each case breaks a healthy machine: the board, how it is broken, and for each check that must react
its status, words of the finding, words of the fix.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from doctor_setups import DIST, EXECUTABLE, PIP, SITE, Machine, gpu_computer, healthy
from fake_boards import BUILDERS

from plr_edge.doctor.base import ABSENT, ADVICE, BROKEN, OK

Case = tuple[str, Callable[[Machine], None], dict[str, tuple[str, str, str]]]
SEES = "include-system-site-packages = true/' /opt/plr-edge/pyvenv.cfg"
INDEX = "--index-url https://pypi.jetson-ai-lab.io/jp6/cu126"
NUMPY_1 = (
    "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.2.6 as it may crash."
)
NOT_LOADED = "[E:onnxruntime] Failed to load library /x/libonnxruntime_providers_cuda.so "


def pip_tensorrt(m: Machine) -> None:
    m.tell("tensorrt", file=f"{SITE}/tensorrt/__init__.py", version="10.7.0")
    m.install("tensorrt", "tensorrt-cu12", "tensorrt-cu12-bindings", "tensorrt-cu12-libs")


def isolated_venv(m: Machine) -> None:
    m.tell("python", sees_system=False)
    for probe in ("tensorrt", "opencv"):
        m.tell_only(probe, found=False)


def pip_opencv(m: Machine) -> None:
    m.tell("opencv", file=f"{SITE}/cv2/__init__.py", version="5.0.0", gstreamer=False)
    m.install("opencv-python")


def opencv_without_any_gstreamer(m: Machine) -> None:
    pip_opencv(m)
    m.remove(f"{DIST[1:]}/cv2/__init__.py")
    (m.tree.root / DIST[1:] / "cv2").rmdir()


def jetpack_5(m: Machine) -> None:
    m.write("etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 1, BOARD: generic")
    for probe in ("tensorrt", "cuda-python"):
        m.tell_only(probe, found=False)
    m.tell_only("torch", found=True, version="2.13.0+cpu", cuda=None)


def no_chip(m: Machine) -> None:
    shutil.rmtree(m.tree.sysfs / "bus/i2c/drivers/ina3221")
    (m.tree.sysfs / "class/hwmon/hwmon1").unlink()


def unreadable_rails(m: Machine) -> None:
    for path in m.tree.sysfs.glob("devices/platform/i2c/1-0040/hwmon/hwmon1/curr*_input"):
        m.unreadable(str(path.relative_to(m.tree.root)))


def no_rapl(m: Machine) -> None:
    for path in m.tree.sysfs.glob("class/powercap/*/energy_uj"):
        m.unreadable(str(path.relative_to(m.tree.root)))


def zram(m: Machine) -> None:
    m.write("proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 1900000 0 5\n"
            "/dev/zram1 partition 1900000 0 5")  # fmt: skip


def desktop(m: Machine) -> None:
    m.process(900, "gnome-shell", 310)
    m.process(901, "Xorg", 90)
    m.process(902, "bash", 5)


def memory(available_kb: int) -> Callable[[Machine], None]:
    def breaks(m: Machine) -> None:
        m.write("proc/meminfo", f"MemTotal: 7620000 kB\nMemAvailable: {available_kb} kB")
        m.process(77, "ollama", 4000)

    return breaks


def small_cgroup(m: Machine) -> None:
    m.write("proc/self/cgroup", "0::/app")
    m.write("sys/fs/cgroup/app/memory.max", "400000000")
    m.write("sys/fs/cgroup/app/memory.current", "60000000")


def replaced_torch(m: Machine) -> None:
    m.tell_only("torch", found=True, version="2.13.0", cuda="13.0", reachable=False,
                cuda_error="RuntimeError: The NVIDIA driver on your system is too old")  # fmt: skip


def predict_only(m: Machine) -> None:
    m.tell("python", extras={"serve": False, "train": False, "export": False})
    m.tell_only("torch", found=False)


def container(m: Machine) -> None:
    m.write(".dockerenv", "")
    m.write("dev/nvmap", "")


def without_release(m: Machine) -> None:
    container(m)
    m.remove("etc/nv_tegra_release")


def without_device_tree(m: Machine) -> None:
    container(m)
    for name in ("model", "compatible"):
        m.remove(f"proc/device-tree/{name}")


def without_runtime(m: Machine) -> None:
    m.write(".dockerenv", "")
    for probe in ("torch", "cuda-python", "tensorrt"):
        m.tell(probe, error="CUDA driver version is insufficient")


def newer_numpy(m: Machine) -> None:
    """Recorded: opencv-python-headless 4.9.0.80 and onnxruntime 1.17.3 with NumPy 2.2.6."""
    m.tell("numpy", version="2.2.6")
    m.tell_only("opencv", found=True, file=f"{SITE}/cv2/__init__.py", output=NUMPY_1,
                error="ImportError: numpy.core.multiarray failed to import")  # fmt: skip
    m.tell("torch", numpy_error="RuntimeError: Numpy is not available")


def two_numpys(m: Machine) -> None:
    m.answers["python"]["packages"]["numpy"] = [["2.2.6", SITE], ["1.21.5", "/usr/lib/python3"]]
    newer_numpy(m)


def python_3_12(m: Machine) -> None:
    m.tell("python", version="3.12.4", sees_system=False)
    m.tell_only("tensorrt", found=False)


def no_kernels(m: Machine) -> None:
    m.tell("torch", architectures=["sm_80", "sm_90"], error="RuntimeError: CUDA error: no kernel "
           "image is available for execution on the device")  # fmt: skip


def both_runtimes(m: Machine) -> None:
    m.install("onnxruntime", "onnxruntime-gpu")


def runtime_without_cuda(m: Machine) -> None:
    """Recorded: onnxruntime-gpu 1.31.1 without CUDA 13."""
    m.install("onnxruntime-gpu")
    why = "RuntimeError: it could not be started"
    cuda, tensorrt = "CUDAExecutionProvider", "TensorrtExecutionProvider"
    m.tell("onnxruntime", version="1.31.1", providers=[tensorrt, cuda, "CPUExecutionProvider"],
           failed={cuda: why, tensorrt: why}, output=f"{NOT_LOADED}with error: libcublasLt.so.13: "
           "cannot open shared object file: No such file or directory\n")  # fmt: skip


def tensorrt_without_library(m: Machine) -> None:
    """Recorded: tensorrt-cu13-bindings 10.13.3.9 without its library."""
    m.tell("tensorrt", version=None, error="ImportError: libnvinfer.so.10: cannot open shared "
           "object file: No such file or directory")  # fmt: skip


def crash(probe: str, error: str) -> Callable[[Machine], None]:
    return lambda m: m.tell_only(probe, found=True, error=error)


def tells(probe: str, **facts: object) -> Callable[[Machine], None]:
    return lambda m: m.tell(probe, **facts)


def lacks(probe: str) -> Callable[[Machine], None]:
    return lambda m: m.tell_only(probe, found=False)


def writes(path: str, text: str) -> Callable[[Machine], None]:
    return lambda m: m.write(path, text)


ORIN, PC, GPU_PC = "orin-nano-8gb", "desktop", "PC with a GPU"
SEGV = "it crashed (SIGSEGV) when trying to import it"
CASES: dict[str, Case] = {
    "TensorRT of pip on JetPack 6": (ORIN, pip_tensorrt, {"TensorRT": (
        BROKEN, "10.7.0 from pip is for servers and does not support Jetsons",
        f"{PIP} uninstall -y tensorrt tensorrt-cu12 tensorrt-cu12-bindings tensorrt-cu12-libs")}),
    "a virtual environment that hides JetPack's packages": (ORIN, isolated_venv, {
        "Python": (OK, "does not see the system's packages", ""),
        "TensorRT": (BROKEN, f"TensorRT in {DIST} is not visible", SEES),
        "OpenCV": (ADVICE, f"OpenCV in {DIST} is not visible", SEES),
        "CUDA for Python": (ABSENT, "not needed", "")}),
    "OpenCV of pip hides the system's": (ORIN, pip_opencv, {"OpenCV": (
        ADVICE, "5.0.0 from pip, without GStreamer, hides", f"{PIP} uninstall -y opencv-python")}),
    "no OpenCV with GStreamer": (ORIN, opencv_without_any_gstreamer, {"OpenCV": (
        ADVICE, "without GStreamer", "apt-get install libopencv-python")}),
    "torch for processors on a Jetson": (
        ORIN, tells("torch", cuda=None, reachable=None, version="2.13.0+cpu"), {"torch": (
            ADVICE, "built for CPUs", f"torch {INDEX}")}),
    "torch without kernels for the GPU": (ORIN, no_kernels, {"torch": (
        BROKEN, "no kernels for Orin (sm_87), only for sm_80, sm_90", f"torch {INDEX}")}),
    "torch replaced by pip": (ORIN, replaced_torch, {"torch": (
        BROKEN, "built for CUDA 13.0, but JetPack 6.1 to 6.2.2 has 12.6", f"torch {INDEX}")}),
    "torch crashes when imported": (ORIN, crash("torch", SEGV), {"torch": (
        BROKEN, "torch cannot be used: it crashed (SIGSEGV)", f"torch {INDEX}")}),
    "torch without its BLAS": (
        ORIN, crash("torch", "OSError: libopenblas.so.0: cannot open shared object file"),
        {"torch": (BROKEN, "libopenblas.so.0", "apt-get install libopenblas0")}),
    "torch before 2.3": (ORIN, tells("torch", version="2.1.0"), {"torch": (
        BROKEN, "2.3 or newer", f"torch {INDEX}")}),
    "no torch": (ORIN, lacks("torch"), {"torch": (BROKEN, "not installed", f"torch {INDEX}")}),
    "no torch where nothing is trained": (ORIN, predict_only, {"torch": (
        ABSENT, "this machine answers, and trains nothing", f"torch {INDEX}"),
        "extras": (ABSENT, "installed: none; not: serve, export", "plr-edge[serve,export]")}),
    "JetPack 5 on an Orin": (ORIN, jetpack_5, {
        "JetPack": (ADVICE, "JetPack 5.1 (L4T 35.4.1): its TensorRT 8.5.2", "flash JetPack 7.2"),
        "TensorRT": (ABSENT, "not available for Python 3.10 on JetPack 5.1", ""),
        "torch": (OK, "CPU only", ""),
        "CUDA for Python": (ABSENT, "not needed", "")}),
    "a Python that is not JetPack's": (ORIN, python_3_12, {
        "Python": (ADVICE, "Python 3.12, but JetPack 6.1 to 6.2.2", "/usr/bin/python3 -m venv"),
        "TensorRT": (BROKEN, "not visible", "/usr/bin/python3 -m venv --system-site-packages"),
        "CUDA for Python": (ABSENT, "not needed", "")}),
    "an L4T that nobody knows": (ORIN, writes(
        "etc/nv_tegra_release", "# R41 (release), REVISION: 1.0, GCID: 1"), {
        "JetPack": (ADVICE, "L4T 41.1.0", "newer plr-edge"),
    }),
    "a container without the L4T release": (ORIN, without_release, {
        "board": (OK, "in a container", ""),
        "JetPack": (ADVICE, "(5.15.148-tegra) is that of JetPack 6",
                    "-v /etc/nv_tegra_release:/etc/nv_tegra_release:ro")}),
    "a container without the device tree": (ORIN, without_device_tree, {"board": (
        ADVICE, "the device tree cannot be read", "--security-opt systempaths=unconfined")}),
    "a container without NVIDIA's runtime": (ORIN, without_runtime, {
        "board": (OK, "in a container", ""),
        "devices": (BROKEN, "no device file of the Jetson's GPU", "--runtime nvidia"),
        **{name: (BROKEN, "cannot be used: CUDA driver version is insufficient", "--runtime nvidia")
           for name in ("torch", "TensorRT", "CUDA for Python")}}),
    "TensorRT without its library": (ORIN, tensorrt_without_library, {"TensorRT": (
        BROKEN, "libnvinfer.so.10", "apt-get install --reinstall tensorrt python3-libnvinfer")}),
    "no cuda-bindings": (ORIN, lacks("cuda-python"), {"CUDA for Python": (
        ADVICE, "not installed", "'cuda-bindings==12.*'")}),
    "cuda-bindings of another CUDA": (ORIN, tells("cuda-python", version="13.5.0"), {
        "CUDA for Python": (BROKEN, "13.5.0 does not match JetPack's CUDA 12.6",
                            "'cuda-bindings==12.*'")}),
    "no INA3221": (ORIN, no_chip, {"power rails": (
        BROKEN, "has VDD_IN, VDD_CPU_GPU_CV, VDD_SOC, but no INA3221", "modprobe ina3221")}),
    "rails that cannot be read": (ORIN, unreadable_rails, {"power rails": (
        BROKEN, "none of them can be read", "modprobe ina3221")}),
    "a Thor without its carrier's chip": (
        "agx-thor", lambda m: m.unreadable(
            "sys/devices/platform/i2c/2-0044/hwmon/hwmon2/power1_input"), {"power rails": (
                BROKEN, "VIN cannot be read, only VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0; without "
                "it there is no total", "modprobe")}),
    "RAPL for root only": (PC, no_rapl, {"RAPL": (
        ADVICE, "only root may read it", "60-powercap.rules")}),
    "a GPU without NVML's bindings": (GPU_PC, lacks("nvml"), {"NVML": (
        ADVICE, "the GPU's energy is not measured", f"{PIP} install 'plr-edge[gpu]'")}),
    "NVML without its library": (
        GPU_PC, lambda m: m.tell_only(
            "nvml", found=True, reason="NVML Shared Library Not Found"),
        {"NVML": (BROKEN, "NVML Shared Library Not Found", "nvidia-smi")}),
    "a driver older than torch": (
        GPU_PC, tells("torch", reachable=False, cuda_error="driver on your system is too old"),
        {"torch": (BROKEN, "cannot use the GPU: driver on your system is too old", "nvidia-smi")}),
    "ZRAM and no swap": (ORIN, zram, {"swap": (
        ADVICE, "3.9 GB of ZRAM", "disable --now nvzramconfig && sudo fallocate -l 4G /swapfile")}),
    "no swap": (ORIN, writes("proc/swaps", "Filename Type Size Used Priority"), {"swap": (
        ADVICE, "no swap", "sudo fallocate -l 4G /swapfile")}),
    "a desktop on 8 GB": (ORIN, desktop, {"desktop": (
        ADVICE, "(gnome-shell, Xorg) takes 410 MB", "set-default multi-user.target")}),
    "memory too small to learn": (ORIN, memory(600_000), {"memory": (
        ADVICE, "614 MB free", "ollama (4.1 GB)")}),
    "memory too small to answer": (ORIN, memory(100_000), {"memory": (
        BROKEN, "102 MB free", "ollama")}),
    "a cgroup too small to learn": (ORIN, small_cgroup, {"memory": (
        ADVICE, "340 MB free", "stop")}),
    "a low power mode": (ORIN, writes(
        "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=7W >\n< POWER_MODEL ID=1 NAME=15W >\n"
        "< POWER_MODEL ID=2 NAME=MAXN_SUPER >"),
        {"power mode": (
            ADVICE, "mode 7W is below the default budget of this board, 15 W",
            "sudo nvpmodel -m 1")}),
    "clocks that are lowered": (ORIN, writes("sys/class/thermal/cooling_device1/cur_state", "2"), {
        "throttling": (ADVICE, "gpu-throttle-alert", "cooling")}),
    "onnxruntime twice": (ORIN, both_runtimes, {"ONNX Runtime": (
        BROKEN, "are both installed", f"uninstall -y onnxruntime onnxruntime-gpu && {PIP} install "
        f"onnxruntime-gpu {INDEX}")}),
    "no onnxruntime": (PC, lacks("onnxruntime"), {"ONNX Runtime": (
        BROKEN, "not installed", f"{PIP} install onnxruntime")}),
    "onnxruntime that computes wrongly": (
        PC, tells("onnxruntime", failed={"CPUExecutionProvider": "it returns [7] for 3 + 3"}),
        {"ONNX Runtime": (BROKEN, "[7] for 3 + 3", "--force-reinstall onnxruntime")}),
    "onnxruntime without its CUDA": (GPU_PC, runtime_without_cuda, {"ONNX Runtime": (
        BROKEN, "libcublasLt.so.13 is missing", "'onnxruntime-gpu[cuda,cudnn]'")}),
    "onnxruntime for a GPU that is not here": (PC, runtime_without_cuda, {"ONNX Runtime": (
        ADVICE, "no NVIDIA GPU here either", f"&& {PIP} install onnxruntime")}),
    "packages built for NumPy 1": (ORIN, newer_numpy, {
        "NumPy": (BROKEN, "another NumPy than 2.2.6, so arrays cannot be passed: "
                  "torch 2.5.0a0+872d972e41.nv24.08, opencv", f"{PIP} install 'numpy<2'"),
        "OpenCV": (BROKEN, "numpy.core.multiarray failed", f"{PIP} install 'numpy<2'")}),
    "a package built for a newer NumPy": (
        PC, crash("opencv", "RuntimeError: module was compiled against NumPy C-API version 0x10"),
        {name: (BROKEN, "", f"{PIP} install --upgrade numpy") for name in ("NumPy", "OpenCV")}),
    "two NumPys": (ORIN, two_numpys, {
        name: (BROKEN, "", f"{PIP} install 'numpy<2'") for name in ("NumPy", "OpenCV")}),
    "NumPy that hangs": (
        PC, crash("numpy", "no answer within 120 s when trying to import it"),
        {"NumPy": (BROKEN, "no answer within 120 s", "--force-reinstall --no-cache-dir numpy")}),
    "OpenCV without OpenGL": (
        PC, crash("opencv", "ImportError: libGL.so.1: cannot open shared object file"),
        {"OpenCV": (BROKEN, "libGL.so.1", f"{PIP} install opencv-python-headless")}),
    "OpenCV after too many libraries": (
        ORIN, crash("opencv", "ImportError: /lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate "
                    "memory in static TLS block"),
        {"OpenCV": (BROKEN, "static TLS", "LD_PRELOAD=/lib/aarch64-linux-gnu/libgomp.so.1")}),
    "OpenCV twice": (PC, lambda m: m.install("opencv-python", "opencv-python-headless"), {
        "OpenCV": (ADVICE, "overwrite each other", "uninstall -y opencv-python opencv-python-h")}),
}  # fmt: skip


def machine(name: str, folder: Path) -> Machine:
    return gpu_computer(folder) if name == GPU_PC else healthy(name, folder)


@pytest.fixture(autouse=True)
def enough_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk of the machine that tests decide nothing."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50_000_000_000))


@pytest.mark.parametrize("name", [*BUILDERS, GPU_PC])
def test_healthy_machine_has_nothing_broken(tmp_path: Path, name: str) -> None:
    findings = machine(name, tmp_path / "m").examine()
    assert not [one for one in findings.values() if one.status == BROKEN]
    # JetPack 4 and 5 have no TensorRT for Python 3.10, which is worth a word
    advice = {check for check, one in findings.items() if one.status == ADVICE}
    old = name in ("jetson-nano", "jetson-nano-2gb", "xavier-nx", "agx-xavier")
    assert advice == ({"JetPack", "OpenCV"} if old else set()), findings
    assert all("\n" not in f"{one.found}{one.fix}" for one in findings.values())


@pytest.mark.parametrize("name", CASES)
def test_the_fault_and_its_fix_are_named_and_nothing_else(tmp_path: Path, name: str) -> None:
    board, breaks, expected = CASES[name]
    sound = machine(board, tmp_path / "sound").examine()
    broken = machine(board, tmp_path / "broken")
    breaks(broken)
    findings = broken.examine()
    changed = {
        check for check in sound.keys() | findings.keys() if sound.get(check) != findings.get(check)
    }
    assert changed == set(expected)
    for check, (status, found, fix) in expected.items():
        assert findings[check].status == status
        assert found in findings[check].found
        assert fix in (findings[check].fix or "")
        assert findings[check].fix or status in (OK, ABSENT)
        if (findings[check].fix or "").startswith(("sudo ", "sed ", "export ", EXECUTABLE)):
            assert subprocess.run(["sh", "-n", "-c", str(findings[check].fix)]).returncode == 0


@pytest.mark.parametrize(
    ("free_bytes", "status"), [(50_000_000, BROKEN), (500_000_000, ADVICE), (5_000_000_000, OK)]
)
def test_disk_that_is_full_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, status: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_bytes))
    m = healthy("orin-nx", tmp_path / "m")
    m.answers["state"] = {"error": "x holds no state; make one with `plr-edge adapt`"}
    found = m.examine(state=tmp_path / "not" / "there")
    assert found["disk"].status == status and str(tmp_path) in found["disk"].found
    assert found["state"].status == ABSENT
    assert (found["disk"].fix is None) == (status == OK)
    assert status == OK or "sudo du -xh --max-depth=3 /" in str(found["disk"].fix)


def test_devices_and_places_that_this_user_may_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = healthy("orin-nx", tmp_path / "m")
    m.write("dev/nvmap", "")
    m.write("dev/video0", "")
    refused = {"nvmap", "video0", tmp_path.name}
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name not in refused and access(path, mode)
    )
    m.answers["state"] = {"error": "x holds no state; make one"}
    found = m.examine(state=tmp_path / "learned")
    assert found["devices"].status == BROKEN and found["devices"].fix is not None
    assert "/dev/nvmap, /dev/video0, so CUDA cannot start" in found["devices"].found
    assert found["devices"].fix.startswith('sudo usermod -aG video,render "$USER"')
    assert found["disk"].status == BROKEN and f'chown -R "$USER" {tmp_path}/learned' in str(
        found["disk"].fix
    )
    m.remove("dev/nvmap")
    assert m.examine()["devices"].status == ADVICE  # a camera alone


def test_board_that_nobody_knows(tmp_path: Path) -> None:
    m = healthy("raspberry-pi-5", tmp_path)
    m.write("proc/device-tree/model", "Radxa ROCK 5B\0")
    m.write("proc/device-tree/compatible", "radxa,rock-5b\0")
    finding = m.examine()["board"]
    assert finding.status == ADVICE and "Radxa ROCK 5B" in finding.found
    assert finding.fix is not None and "--duty" in finding.fix


def test_fixed_virtual_environment_sees_the_systems_packages(tmp_path: Path) -> None:
    venv.create(tmp_path / "v", with_pip=False)
    m = healthy("orin-nx", tmp_path / "m")
    isolated_venv(m)
    m.tell("python", prefix=str(tmp_path / "v"))

    def sees_system() -> bool:
        folder = subprocess.run(
            [tmp_path / "v/bin/python", "-c", "import sys; print(sys.path)"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return site.getsitepackages([sys.base_prefix])[0] in folder

    assert not sees_system()
    subprocess.run(["sh", "-c", str(m.examine()["TensorRT"].fix)], check=True)
    assert sees_system()
