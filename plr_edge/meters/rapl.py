"""Energy of x86 processors from the powercap tree (RAPL, Intel and AMD).

Since Linux 5.10 only root may read the counters (CVE-2020-8694). This module does not change that,
but its message says how to give a group access.
"""

from __future__ import annotations

import time
from pathlib import Path

from plr_edge.files import read_int, read_text
from plr_edge.meters.base import Clock, PowerMeter
from plr_edge.meters.sampling import COUNT_EVERY_S, CountingMeter

UNNAMED = "unnamed"  # prefix of a zone whose name cannot be read
NOTE = "processor packages and their memory only, not the machine"
UDEV_RULE = (
    'SUBSYSTEM=="powercap", ACTION=="add", '
    'RUN+="/bin/chgrp power %S%p/energy_uj", RUN+="/bin/chmod g+r %S%p/energy_uj"'
)
HOW_TO_ALLOW = (
    "only root may read energy_uj; to give a group access, `groupadd -r power`, add the user to "
    f"it and put this line into /etc/udev/rules.d/60-powercap.rules: {UDEV_RULE}"
)


def _zones(sysfs: Path) -> dict[str, Path]:
    """Return the folder of each rail by name; a part of a package is e.g. `package-0/core`."""
    zones: dict[str, Path] = {}
    for path in sorted((sysfs / "class" / "powercap").glob("intel-rapl:*")):
        name = read_text(path / "name") or f"{UNNAMED} {path.name}"
        parent, _, _ = path.name.rpartition(":")
        if parent != "intel-rapl":
            name = f"{read_text(path.parent / parent / 'name') or parent}/{name}"
        zones[name if name not in zones else f"{name}@{path.name}"] = path
    return zones


def _total_rails(rails: dict[str, Path]) -> tuple[str, ...]:
    """Return the rails of the total: packages and their memory.

    Cores are part of a package, and psys contains all packages. If a zone has no readable name,
    there is no total.
    """
    packages = [r for r in rails if r.startswith("package") and "/" not in r]
    memory = [r for r in rails if r.partition("/")[2] == "dram"]
    unnamed = any(UNNAMED in rail for rail in rails)
    return tuple(packages + memory) if packages and not unnamed else ()


def find_rapl(
    sysfs: Path = Path("/sys"),
    *,
    interval_s: float | None = COUNT_EVERY_S,
    clock_ns: Clock = time.monotonic_ns,
) -> PowerMeter | str:
    """Return the meter, or one line that says why there is none.

    Args:
        sysfs: where /sys is.
        interval_s: time between samples; None starts no thread.
        clock_ns: monotonic clock in nanoseconds; tests replace it.
    """
    zones = _zones(sysfs)
    if not zones:
        return "rapl: no intel-rapl zone in /sys/class/powercap"
    readable = {r: p for r, p in zones.items() if read_int(p / "energy_uj") is not None}
    if not readable:
        return f"rapl: {HOW_TO_ALLOW}"

    def read() -> dict[str, float]:
        values = {rail: read_int(path / "energy_uj") for rail, path in readable.items()}
        return {rail: value / 1000 for rail, value in values.items() if value is not None}

    ranges = {rail: read_int(path / "max_energy_range_uj") for rail, path in readable.items()}
    # from all zones: if a package or its memory is unreadable, there is no total
    return CountingMeter(
        "rapl",
        tuple(readable),
        _total_rails(zones),
        read,
        range_mj={rail: value / 1000 for rail, value in ranges.items() if value is not None},
        interval_s=interval_s,
        clock_ns=clock_ns,
        notes=[NOTE, *(f"{rail} is not readable" for rail in zones if rail not in readable)],
    )
