"""Describes the machine for reports: processor, memory, board, release and power mode.

Only reads, and never changes a mode. Unknown values are absent.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from plr_edge.files import read_int, read_text
from plr_edge.meters.gpu import read_gpu

NVPMODEL_TIMEOUT_S = 2.0
ALARMING = ("ina3221", "rpi_volt")  # desktop chips have unconnected alarm inputs


def describe_machine(root: Path = Path("/")) -> dict[str, str | int]:
    """Return what is known about this machine.

    Args:
        root: folder that contains /proc, /sys, /etc and /var. nvpmodel runs only for the real root.

    Returns:
        Known values by name: arch, python, cpu_model, n_cores, memory_bytes, board_model,
        l4t_release, power_mode, cpu_governor, clocks, gpu_freq_hz, fan_pwm, fan_profile and
        throttled_by.
    """
    readers: dict[str, Callable[[Path], str | int | None]] = {
        "cpu_model": _cpu_model,
        "n_cores": _n_cores,
        "memory_bytes": _memory_bytes,
        "board_model": lambda root: read_text(root / "proc/device-tree/model"),
        "l4t_release": l4t_release,
        "power_mode": _power_mode,
        "cpu_governor": _cpu_governor,
        "clocks": _clocks,
        "gpu_freq_hz": lambda root: getattr(read_gpu(root / "sys"), "freq_hz", None),
        "fan_pwm": _fan_pwm,
        "fan_profile": _fan_profile,
        "throttled_by": _throttled_by,
    }
    # platform.processor() is empty on many Linux builds
    machine: dict[str, str | int] = {
        "arch": platform.machine(),
        "python": platform.python_version(),
    }
    for key, reader in readers.items():
        value = reader(root)
        if value is not None and value != "":
            machine[key] = value
    return machine


def _cpu_model(root: Path) -> str | None:
    text = read_text(root / "proc/cpuinfo") or ""
    match = re.search(r"^(?:model name|Model)\s*:\s*(\S.*)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def _n_cores(root: Path) -> int | None:
    text = read_text(root / "proc/cpuinfo") or ""
    return len(re.findall(r"^processor\s*:", text, re.MULTILINE)) or (
        os.cpu_count() if root == Path("/") else None
    )


def _memory_bytes(root: Path) -> int | None:
    text = read_text(root / "proc/meminfo") or ""
    match = re.search(r"^MemTotal:\s*(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def l4t_release(root: Path) -> str | None:
    """Return `36.4.3` from `# R36 (release), REVISION: 4.3, ...`; None on other machines."""
    text = read_text(root / "etc/nv_tegra_release") or ""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else None


def _cpu_governor(root: Path) -> str | None:
    """Return the frequency governor of the cores; all of them if they differ."""
    cpus = root / "sys/devices/system/cpu"
    texts = [read_text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")]
    return ", ".join(sorted({text for text in texts if text})) or None


def _power_mode(root: Path) -> str | None:
    """Return the power mode from `nvpmodel -q`, or from its state file if that fails."""
    return (_reported_power_mode() if root == Path("/") else None) or _saved_power_mode(root)


def _reported_power_mode() -> str | None:
    command = shutil.which("nvpmodel", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None:
        return None
    try:
        result = subprocess.run(
            [command, "-q"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=NVPMODEL_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return parse_nvpmodel(result.stdout) if result.returncode == 0 else None


def _saved_power_mode(root: Path) -> str | None:
    """Return the name of the mode in the state file of nvpmodel."""
    number = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    return power_modes(root).get(int(number[1])) if number else None


def power_modes(root: Path = Path("/")) -> dict[int, str]:
    """Return the names of the modes of nvpmodel by their number; empty if there are none."""
    conf = read_text(root / "etc/nvpmodel.conf") or ""
    modes = re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(?:MODE_)?(\S+)", conf)
    return {int(number): name for number, name in modes}


def _clocks(root: Path) -> str | None:
    """Return `held` if the clocks are fixed, as by `jetson_clocks`, or `free`; None if unknown."""
    cpus = root / "sys/devices/system/cpu"
    limits = [
        (read_int(folder / "scaling_min_freq"), read_int(folder / "scaling_max_freq"))
        for folder in cpus.glob("cpu[0-9]*/cpufreq")
    ]
    gpu = read_gpu(root / "sys")
    if gpu is not None:
        limits.append((gpu.min_freq_hz, gpu.max_freq_hz))
    if not limits or any(None in pair for pair in limits):
        return None
    return "held" if all(low == high for low, high in limits) else "free"


def _fan_pwm(root: Path) -> int | None:
    """Return the duty of the fan, 0..255."""
    for chip in sorted((root / "sys/class/hwmon").glob("*")):
        if (read_text(chip / "name") or "") in ("pwmfan", "tegra_pwmfan"):
            return read_int(chip / "pwm1")
    return None


def _fan_profile(root: Path) -> str | None:
    text = read_text(root / "etc/nvfancontrol.conf") or ""
    match = re.search(r"^\s*FAN_DEFAULT_PROFILE\s+(\w+)", text, re.MULTILINE)
    return match[1] if match else None


def _throttled_by(root: Path) -> str | None:
    """Return what currently lowers the clocks: active cooling devices and alarms of the rails."""
    acting = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = read_text(device / "type") or device.name
        if (
            not re.search("fan|TCC Offset", kind, re.IGNORECASE)
            and (read_int(device / "cur_state") or 0) > 0
        ):
            acting.append(kind)
    for alarm in sorted((root / "sys/class/hwmon").glob("*/*_alarm")):
        if read_text(alarm.parent / "name") not in ALARMING:
            continue
        channel, _, what = alarm.name.partition("_")
        if (read_int(alarm) or 0) > 0:
            number = re.sub(r"\D", "", channel)
            label = read_text(alarm.parent / f"in{number}_label") or channel
            acting.append(f"{label} {what.removesuffix('_alarm')}")
    return ", ".join(acting) or None


def parse_nvpmodel(text: str) -> str | None:
    """Return `MAXN` from `NV Power Mode: MAXN`."""
    match = re.search(r"^NV Power Mode:\s*(?:MODE_)?(\S+)", text, re.MULTILINE)
    return match[1] if match else None
