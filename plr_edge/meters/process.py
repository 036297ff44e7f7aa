"""Memory and processor time of one process, from /proc; works for any pid one may look at."""

from __future__ import annotations

import os
from pathlib import Path

from plr_edge.meters._files import read_text


def _fields_bytes(path: Path) -> dict[str, int]:
    """Return every `Name:  123 kB` line of the file, in bytes."""
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
    """Return rss_bytes, peak_rss_bytes, pss_bytes, uss_bytes and data_bytes; absent where
    unreadable.

    On a board whose memory the GPU shares, the proportional set (PSS) is the honest figure when
    several processes map the same libraries. Data is what RLIMIT_DATA, and so
    `plr-edge run --memory-limit`, limits: private memory that was asked for, touched or not.

    Args:
        pid: of the process; this one by default.
        proc: where /proc is.
        walk: also add up the pages (PSS and USS), which takes milliseconds.
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
    """Return the memory that the machine could still give; None where it cannot be read."""
    return _fields_bytes(proc / "meminfo").get("MemAvailable")


def cpu_seconds(pid: int | None = None, proc: Path = Path("/proc")) -> float | None:
    """Return user and system time of all threads; None where it cannot be read."""
    text = read_text(proc / ("self" if pid is None else str(pid)) / "stat")
    # the name stands in brackets and may hold blanks and brackets itself
    words = (text or "").rpartition(")")[2].split()
    if len(words) < 13:
        return None
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
