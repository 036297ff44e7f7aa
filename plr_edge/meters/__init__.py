"""Meters: power rails, memory and CPU time of a process, temperatures, and the machine itself.

`METERS` maps names to functions that look for a power meter; add a new one there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from plr_edge.meters.base import EnergyReading, PowerMeter
from plr_edge.meters.battery import read_charging
from plr_edge.meters.board import describe_machine
from plr_edge.meters.cgroup import cpu_quota
from plr_edge.meters.gpu import GpuState, read_gpu
from plr_edge.meters.hwmon import find_ina3221
from plr_edge.meters.idle import NetEnergy, measure_idle, net_energy
from plr_edge.meters.nvml import find_nvml
from plr_edge.meters.process import (
    available_bytes,
    busy_seconds,
    cpu_seconds,
    process_memory,
)
from plr_edge.meters.rapl import find_rapl
from plr_edge.meters.tegrastats import find_tegrastats
from plr_edge.meters.thermal import read_temperatures_c

__all__ = [
    "METERS",
    "EnergyReading",
    "GpuState",
    "NetEnergy",
    "PowerMeter",
    "available_bytes",
    "busy_seconds",
    "cpu_quota",
    "cpu_seconds",
    "describe_machine",
    "find_power_meters",
    "measure_idle",
    "net_energy",
    "process_memory",
    "read_charging",
    "read_gpu",
    "read_temperatures_c",
]

# each function returns a meter, or one line that says why there is none
METERS: dict[str, Callable[[Path], PowerMeter | str]] = {
    "ina3221": find_ina3221,
    "rapl": find_rapl,
    "nvml": find_nvml,
    "tegrastats": find_tegrastats,
}


def find_power_meters(sysfs: Path = Path("/sys")) -> tuple[list[PowerMeter], list[str]]:
    """Return the power meters of this machine.

    Args:
        sysfs: where /sys is.

    Returns:
        meters: the meters that work here.
        reasons: one line for each kind that does not.
    """
    found = [find(sysfs) for find in METERS.values()]
    meters = [meter for meter in found if isinstance(meter, PowerMeter)]
    return meters, [reason for reason in found if isinstance(reason, str)]
