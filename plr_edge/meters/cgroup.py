"""How much processor time the cgroup of this process may use; versions 1 and 2."""

from __future__ import annotations

from pathlib import Path

from plr_edge.meters._files import read_text


def cpu_quota(proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> float | None:
    """Return the processors that this process may keep busy, None where nothing limits it.

    Args:
        proc: root of /proc.
        sysfs: root of /sys.
    """
    quotas = []
    for line in (read_text(proc / "self" / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if "cpu" in names:
            root = sysfs / "fs" / "cgroup" / "cpu"
        elif not controllers:
            root = sysfs / "fs" / "cgroup"
        else:
            continue
        folder = root / path.lstrip("/")
        while folder == root or root in folder.parents:
            quotas.append(_quota_of(folder))
            folder = folder.parent
    limits = [quota for quota in quotas if quota is not None]
    return min(limits) if limits else None


def _quota_of(folder: Path) -> float | None:
    both = (read_text(folder / "cpu.max") or "").split()
    if len(both) != 2:
        both = [
            (read_text(folder / f"cpu.cfs_{name}_us") or "").strip() for name in ("quota", "period")
        ]
    if not all(value.isdigit() for value in both) or int(both[1]) == 0:
        return None  # `max`, -1 or no such file
    return int(both[0]) / int(both[1])
