"""Rules about what runs out: memory, swap, the desktop that takes it, the disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from plr_edge.doctor.base import GIB, Finding, Rule, Setup, advice, broken, ok, size
from plr_edge.files import read_text
from plr_edge.meters.cgroup import memory_left_bytes

# docs/reliability.md: perception 122 MB; torch, engines and 100,000 labels 816 MB
_TO_ANSWER_BYTES, _TO_LEARN_BYTES = 150_000_000, 1_000_000_000
# a state is capped at some 100 MB; a TensorRT plan and its timings are tens
_TO_KEEP_BYTES, _COMFORTABLE_BYTES = 100_000_000, 1_000_000_000
_SWAP_BYTES = 4 * GIB
_SWAP_FILE = (
    "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
    "sudo swapon /swapfile && echo '/swapfile none swap sw 0 0' | sudo tee -a /etc/fstab"
)
_DESKTOPS = {
    "Xorg", "Xwayland", "gnome-shell", "gnome-session-b", "kwin_wayland", "kwin_x11",
    "plasmashell", "xfce4-session", "xfwm4", "lxsession", "lxpanel", "lxqt-session", "labwc",
    "wayfire", "weston", "compiz", "mutter",
}  # fmt: skip


def _memory_low(setup: Setup) -> Finding | None:
    left = _left_bytes(setup)
    if left is None or left >= _TO_LEARN_BYTES:
        return None
    hogs = _largest(setup)
    mend = f"stop what takes most: {hogs}" if hogs else "stop what else runs"
    if left < _TO_ANSWER_BYTES:
        return broken(f"{size(left)} free; answering alone takes {size(_TO_ANSWER_BYTES)}", mend)
    return advice(
        f"{size(left)} free; enough to answer, but learning takes up to {size(_TO_LEARN_BYTES)}",
        mend,
    )


def _left_bytes(setup: Setup) -> int | None:
    """Return what the kernel calls available, or what a cgroup leaves of it."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", setup.text("proc/meminfo"), re.M)
    quota = memory_left_bytes(setup.root / "proc", setup.root / "sys")
    left = [n for n in (int(found[1]) * 1024 if found else None, quota) if n is not None]
    return min(left, default=None)


def _processes(setup: Setup) -> list[tuple[int, str]]:
    """Return resident bytes and name of every process that is seen, the largest first."""
    found = []
    for status in setup.root.glob("proc/[0-9]*/status"):
        text = read_text(status) or ""
        name = re.search(r"^Name:\s*(.+)$", text, re.M)
        resident = re.search(r"^VmRSS:\s*(\d+) kB", text, re.M)
        if name and resident:
            found.append((int(resident[1]) * 1024, name[1]))
    return sorted(found, reverse=True)


def _largest(setup: Setup) -> str:
    return ", ".join(f"{name} ({size(n_bytes)})" for n_bytes, name in _processes(setup)[:3])


def _memory(setup: Setup) -> Finding | None:
    left = _left_bytes(setup)
    return None if left is None else ok(f"{size(left)} free")


def _swaps(setup: Setup) -> tuple[int, int]:
    """Return the bytes of compressed memory, and of a disk, that memory is swapped to."""
    zram = disk = 0
    for line in setup.text("proc/swaps").splitlines()[1:]:
        name, _, kilobytes = [*line.split(), "", "", ""][:3]
        n_bytes = int(kilobytes) * 1024 if kilobytes.isdigit() else 0
        if "/zram" in name:
            zram += n_bytes
        else:
            disk += n_bytes
    return zram, disk


def _swap_missing(setup: Setup) -> Finding | None:
    """Small boards run out of memory while an engine is built, or another library is loaded."""
    zram, disk = _swaps(setup)
    if not setup.is_small or disk or not setup.text("proc/swaps"):
        return None
    if not zram:
        return advice("no swap: building an engine may be killed for memory", _SWAP_FILE)
    service = "sudo systemctl disable --now nvzramconfig && " if setup.is_jetson else ""
    return advice(
        f"{size(zram)} of ZRAM, which is memory itself, and no swap on a disk: building an engine "
        "may be killed for memory",
        f"{service}{_SWAP_FILE}",
    )


def _swap(setup: Setup) -> Finding | None:
    zram, disk = _swaps(setup)
    parts = [f"{size(disk)} on a disk" if disk else "", f"{size(zram)} of ZRAM" if zram else ""]
    return ok(", ".join(filter(None, parts)) or "none")


def _desktop_runs(setup: Setup) -> Finding | None:
    running = [(n_bytes, name) for n_bytes, name in _processes(setup) if name in _DESKTOPS]
    if not running or not setup.is_small or not setup.facts.get("board_model"):
        return None
    names = ", ".join(dict.fromkeys(name for _, name in running))
    total = sum(n_bytes for n_bytes, _ in running)
    return advice(
        f"a desktop runs ({names}) and takes {size(total)}",
        "sudo systemctl set-default multi-user.target && "
        "sudo systemctl isolate multi-user.target  # graphical.target brings it back",
    )


def _disk_unwritable(setup: Setup) -> Finding | None:
    if not setup.unwritable:
        return None
    places = " ".join(str(path) for path in sorted(setup.unwritable))
    return broken(
        f"this user may not write to {places}",
        f'sudo mkdir -p {places} && sudo chown -R "$USER" {places}',
    )


def _disk_full(setup: Setup) -> Finding | None:
    place, free = _tightest(setup)
    if place is None or free >= _COMFORTABLE_BYTES:
        return None
    disk = next(path for path in (place, *place.parents) if os.path.ismount(path))
    mend = f"sudo du -xh --max-depth=3 {disk} | sort -h | tail  # says what to delete"
    if free < _TO_KEEP_BYTES:
        return broken(f"{size(free)} free for {place}: what is learned cannot be kept", mend)
    return advice(f"{size(free)} free for {place}", mend)


def _tightest(setup: Setup) -> tuple[Path | None, int]:
    free = setup.free_bytes
    place = min(free, key=lambda path: free[path], default=None)
    return place, free[place] if place is not None else 0


def _disk(setup: Setup) -> Finding | None:
    place, free = _tightest(setup)
    return None if place is None else ok(f"{size(free)} free for {place}")


CHECKS: dict[str, tuple[Rule, ...]] = {
    "memory": (_memory_low, _memory),
    "swap": (_swap_missing, _swap),
    "desktop": (_desktop_runs,),
    "disk": (_disk_unwritable, _disk_full, _disk),
}
