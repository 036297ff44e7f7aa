"""Memory and CPU time of a process from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from plr_edge.files import read_text


def _fields_bytes(path: Path) -> dict[str, int]:
    """Return the values of all `Name:  123 kB` lines of a file, in bytes."""
    fields: dict[str, int] = {}
    for line in (read_text(path) or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            fields[name] = int(words[0]) * 1024
    return fields


def process_memory(
    pid: int | None = None, proc: Path = Path("/proc"), *, walk: bool = True
) -> dict[str, int]:
    """Return the memory of a process.

    Args:
        pid: process; this one by default.
        proc: where /proc is.
        walk: include `pss_bytes` and `uss_bytes`, which takes milliseconds.

    Returns:
        Bytes by name; unreadable values are absent. `rss_bytes` is the resident set and
        `peak_rss_bytes` its maximum. `pss_bytes`, the proportional set, divides shared pages among
        the processes that map them, and is the fairest figure for several processes with the same
        libraries. `uss_bytes` counts private pages only. `data_bytes` is private memory that was
        allocated, used or not. RLIMIT_DATA limits it, and so does `plr-edge run --memory-limit`.
    """
    folder = proc / ("self" if pid is None else str(pid))
    status = _fields_bytes(folder / "status")
    rollup = _fields_bytes(folder / "smaps_rollup") if walk else {}
    memory: dict[str, int] = {}
    for key, fields, name in (
        ("rss_bytes", status, "VmRSS"),
        ("peak_rss_bytes", status, "VmHWM"),
        ("pss_bytes", rollup, "Pss"),
        ("data_bytes", status, "VmData"),
    ):
        if name in fields:
            memory[key] = fields[name]
    if "Private_Clean" in rollup and "Private_Dirty" in rollup:
        names = ("Private_Clean", "Private_Dirty", "Private_Hugetlb")
        memory["uss_bytes"] = sum(rollup.get(name, 0) for name in names)
    return memory


def available_bytes(proc: Path = Path("/proc")) -> int | None:
    """Return the memory in bytes that is still available on the machine; None if unreadable."""
    return _fields_bytes(proc / "meminfo").get("MemAvailable")


def cpu_seconds(pid: int | None = None, proc: Path = Path("/proc")) -> float | None:
    """Return user plus system time of all threads of a process, in seconds; None if unreadable."""
    text = read_text(proc / ("self" if pid is None else str(pid)) / "stat")
    # the name is in parentheses and may contain blanks and parentheses itself
    words = (text or "").rpartition(")")[2].split()
    if len(words) < 13:
        return None
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def busy_seconds(proc: Path = Path("/proc")) -> float | None:
    """Return the time that all processors have worked since the boot; None if unreadable."""
    words = (read_text(proc / "stat") or "").partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
