"""Power as printed by NVIDIA's `tegrastats`, for boards whose sensors cannot be read directly.

This is a fallback: it prints at most ten lines a second, and their format changes between releases.
Only the current value of each rail is used.
"""

from __future__ import annotations

import atexit
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from plr_edge.meters.base import Clock, PowerMeter
from plr_edge.meters.hwmon import find_ina3221, total_of
from plr_edge.meters.sampling import IntegratingMeter

INTERVAL_MS = 100
_FIRST_LINE_S = 3.0
_STALE_NS = 1_000_000_000
# `VDD_IN 4939mW/4939mW` (now/average); before L4T 34 without the unit. RAM and SWAP end in MB.
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?!\S)")


def parse_rails_mw(line: str) -> dict[str, float]:
    """Return the power of each connected rail in a line, in mW.

    Args:
        line: one line of tegrastats, from any release.

    Example:
        >>> parse_rails_mw("RAM 2448/7772MB VDD_IN 4939mW/4939mW NC 0mW/0mW")
        {'VDD_IN': 4939.0}
    """
    return {name: float(mw) for name, mw in _RAIL.findall(line) if name != "NC"}


class _Child:
    """A running tegrastats process, and the newest line that has rails."""

    def __init__(self, command: str, clock_ns: Clock) -> None:
        self._clock_ns = clock_ns
        self._newest: tuple[int, dict[str, float]] = (0, {})
        self._has_line = threading.Event()
        self._process = subprocess.Popen(
            [command, "--interval", str(INTERVAL_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._follow, name="tegrastats", daemon=True).start()
        atexit.register(self.end)

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            rails = parse_rails_mw(line)
            if rails:
                self._newest = (self._clock_ns(), rails)
                self._has_line.set()
        self._has_line.set()  # it ended: wake up those that wait

    def first(self, timeout_s: float) -> dict[str, float]:
        """Wait for the first line with rails, and return them; empty if none came."""
        self._has_line.wait(timeout_s)
        return self._newest[1]

    def read(self) -> Mapping[str, float]:
        """Return the newest rails in mW; empty if they are too old."""
        at_ns, rails = self._newest
        return rails if self._clock_ns() - at_ns <= _STALE_NS else {}

    def end(self) -> None:
        """Kill the process."""
        atexit.unregister(self.end)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def find_tegrastats(
    sysfs: Path = Path("/sys"),
    *,
    command: str | None = None,
    interval_s: float | None = INTERVAL_MS / 1000,
    clock_ns: Clock = time.monotonic_ns,
) -> PowerMeter | str:
    """Return the meter, or one line that says why there is none.

    Args:
        sysfs: where /sys is. If the sensors can be read there, nothing is started.
        command: path of tegrastats; the one on PATH by default.
        interval_s: time between samples.
        clock_ns: monotonic clock in nanoseconds; tests replace it.
    """
    if isinstance(find_ina3221(sysfs, interval_s=None), PowerMeter):
        return "tegrastats: not needed, the sensors can be read directly"
    if command is None:
        command = shutil.which("tegrastats")
    if command is None:
        return "tegrastats: not installed; it comes with JetPack"
    try:
        child = _Child(command, clock_ns)
    except OSError as error:
        return f"tegrastats: {command} cannot be started: {error.strerror}"
    rails = child.first(_FIRST_LINE_S)
    if not rails:
        child.end()
        return f"tegrastats: {command} printed no power rail within {_FIRST_LINE_S:g} s"
    total_rails, note = total_of(tuple(rails))
    return IntegratingMeter(
        "tegrastats",
        tuple(rails),
        total_rails,
        child.read,
        interval_s=interval_s,
        clock_ns=clock_ns,
        notes=[note, f"printed by tegrastats every {INTERVAL_MS} ms"],
    )
