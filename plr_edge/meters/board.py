"""Describe the machine under every report: processor, memory, board, release and power mode.

Reads only, and never changes a mode. What is not known is absent.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from plr_edge.meters._files import read_text

NVPMODEL_TIMEOUT_S = 2.0


def describe_machine(root: Path = Path("/")) -> dict[str, str | int]:
    """Return what is known of: arch, python, cpu_model, n_cores, memory_bytes, board_model,
    l4t_release, power_mode, cpu_governor.

    Args:
        root: where /proc, /sys and /etc lie; nvpmodel is asked only below the real root.
    """
    readers: dict[str, Callable[[Path], str | int | None]] = {
        "cpu_model": _cpu_model,
        "n_cores": _n_cores,
        "memory_bytes": _memory_bytes,
        "board_model": lambda root: read_text(root / "proc/device-tree/model"),
        "l4t_release": _l4t_release,
        "power_mode": _power_mode,
        "cpu_governor": _cpu_governor,
    }
    # platform.processor() is empty on many Linux builds
    facts: dict[str, str | int] = {
        "arch": platform.machine(),
        "python": platform.python_version(),
    }
    for key, reader in readers.items():
        value = reader(root)
        if value:
            facts[key] = value
    return facts


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


def _l4t_release(root: Path) -> str | None:
    """Return `36.4.3` from `# R36 (release), REVISION: 4.3, ...`."""
    text = read_text(root / "etc/nv_tegra_release") or ""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else None


def _cpu_governor(root: Path) -> str | None:
    """Return the governor of the cores, all of them where they differ."""
    cpus = root / "sys/devices/system/cpu"
    texts = [read_text(path) for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")]
    return ", ".join(sorted({text for text in texts if text})) or None


def _power_mode(root: Path) -> str | None:
    """Ask `nvpmodel -q`; where it wants root, or takes long, the mode is not known."""
    command = shutil.which("nvpmodel", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if root != Path("/") or command is None:
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


def parse_nvpmodel(text: str) -> str | None:
    """Return `MAXN` from `NV Power Mode: MAXN`."""
    match = re.search(r"^NV Power Mode:\s*(?:MODE_)?(\S+)", text, re.MULTILINE)
    return match[1] if match else None
