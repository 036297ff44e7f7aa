"""CPU and memory limits of this process's cgroup, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plr_edge.files import read_int, read_text

_UNLIMITED_BYTES = 1 << 62  # version 1 reports about 2^63 if there is no limit


def cpu_quota(proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> float | None:
    """Return the number of CPUs that this process may use; None if there is no limit.

    Args:
        proc: where /proc is.
        sysfs: where /sys is.
    """
    quotas = [_quota_of(folder) for folder in _folders("cpu", proc, sysfs)]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_left_bytes(proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> int | None:
    """Return the bytes that the tightest memory limit leaves; None if there is no limit.

    Args:
        proc: where /proc is.
        sysfs: where /sys is.
    """
    left = [_memory_left_of(folder) for folder in _folders("memory", proc, sysfs)]
    return min((n for n in left if n is not None), default=None)


def _folders(controller: str, proc: Path, sysfs: Path) -> Iterator[Path]:
    """Yield the folder of this process in the tree of a controller, and its parents."""
    for line in (read_text(proc / "self" / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root = sysfs / "fs" / "cgroup" / controller
        elif not controllers:
            root = sysfs / "fs" / "cgroup"
        else:
            continue
        folder = root / path.lstrip("/")
        while folder == root or root in folder.parents:
            yield folder
            folder = folder.parent


def _quota_of(folder: Path) -> float | None:
    both = (read_text(folder / "cpu.max") or "").split()
    if len(both) != 2:
        both = [
            (read_text(folder / f"cpu.cfs_{name}_us") or "").strip() for name in ("quota", "period")
        ]
    if not all(value.isdigit() for value in both) or int(both[1]) == 0:
        return None  # `max`, -1, or no such file
    return int(both[0]) / int(both[1])


def _memory_left_of(folder: Path) -> int | None:
    """Return the limit of one folder minus memory in use that cannot be reclaimed."""
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, in_use = read_int(folder / most), read_int(folder / used)
        if limit is not None and in_use is not None and limit < _UNLIMITED_BYTES:
            return max(limit - in_use + _droppable_bytes(folder), 0)
    return None


def _droppable_bytes(folder: Path) -> int:
    """Return the bytes of inactive file pages, which the kernel reclaims first."""
    lines = (read_text(folder / "memory.stat") or "").splitlines()
    stat = dict(line.split(" ", 1) for line in lines if " " in line)
    text = stat.get("inactive_file", stat.get("total_inactive_file", "0"))
    return int(text) if text.isdigit() else 0
