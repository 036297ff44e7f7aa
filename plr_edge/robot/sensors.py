"""Sensors: power, energy, temperature, memory and load, read once a second.

They are read on a thread of their own. On a board a power rail is an I2C transfer of milliseconds,
which no frame waits for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from plr_edge.meters import (
    PowerMeter,
    busy_seconds,
    cpu_seconds,
    find_power_meters,
    process_memory,
    read_charging,
    read_temperatures_c,
)

_EVERY_S = 1.0
_MEMORY_EVERY = 30  # readings, because the kernel walks every page for it
_MIN_WAIT_S = 0.03  # of a second; frames can lose less without harm
TOTAL = "total"


@dataclass(frozen=True)
class Sensed:
    """One reading of everything. What cannot be read is absent.

    Attributes:
        power_w: mean power of the whole board since the reading before.
        rails_w: the same by rail, and `total`.
        temps_c: temperature by zone.
        memory_bytes: memory of this process by kind. Kinds but `rss` are up to half a minute old.
        pressure: share of the frames' processing time spent waiting for a processor.
        trainer_cores: processors that the trainer took.
        others_cores: processors that programs other than this robot's took.
        charging: whether a battery is being charged.
    """

    power_w: float | None = None
    rails_w: dict[str, float] = field(default_factory=dict)
    temps_c: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    pressure: float | None = None
    trainer_cores: float | None = None
    others_cores: float | None = None
    charging: bool | None = None


class Sensors:
    """The newest reading, and the energy since the start.

    Attributes:
        now: the newest reading.
        rails_j: energy since the start by rail, and `total`.
        trainer_pid: returns the process of the trainer. None if there is none.
    """

    def __init__(self) -> None:
        """Find the meters."""
        self.now = Sensed()
        self.rails_j: dict[str, float] = {}
        self.trainer_pid: Callable[[], int | None] = lambda: None
        self._load_at, self._load_s, self._trainer = 0.0, dict[str, float](), 0
        self._n_readings, self._memory = 0, dict[str, int]()
        self._frames_thread, self._ran_and_waited_s = 0, (0.0, 0.0)
        self._meters: list[PowerMeter] = find_power_meters()[0]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    @property
    def energy_j(self) -> float | None:
        """Energy of the whole board since the start. None if nothing measures it."""
        return self.rails_j.get(TOTAL)

    def start(self) -> None:
        """Read once a second from now on. Call it on the thread that answers frames."""
        self._frames_thread = threading.get_native_id()
        for meter in self._meters:
            meter.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join()

    def read(self) -> None:
        """Read everything once."""
        rails_w = self._read_power()
        if self._n_readings % _MEMORY_EVERY == 0:
            self._memory = {k.removesuffix("_bytes"): v for k, v in process_memory().items()}
        self._n_readings += 1
        memory = {**self._memory, **_resident()}
        temps_c = read_temperatures_c()
        self.now = Sensed(
            rails_w.get(TOTAL), rails_w, temps_c, memory, self._pressure(), *self._load(),
            read_charging(),
        )  # fmt: skip

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self.read()
            self._stopping.wait(_EVERY_S)

    def _read_power(self) -> dict[str, float]:
        rails_w: dict[str, float] = {}
        for meter in self._meters:
            reading = meter.stop()
            meter.start()
            rails = {f"{meter.name}/{name}": mj for name, mj in reading.rails_mj.items()}
            if reading.total_mj is not None:
                rails[TOTAL] = reading.total_mj
            for name, energy_mj in rails.items():
                self.rails_j[name] = self.rails_j.get(name, 0.0) + energy_mj / 1e3
                if reading.seconds > 0:
                    watts = energy_mj / 1e3 / reading.seconds
                    rails_w[name] = rails_w.get(name, 0.0) + watts
        return rails_w

    def _load(self) -> tuple[float | None, float | None]:
        """Return the processors that the trainer and other programs took since the last time."""
        pid, busy_s, at = self.trainer_pid(), busy_seconds(), time.monotonic()
        trainer_s = cpu_seconds(pid) if pid is not None else 0.0
        own_s = time.process_time()
        before, self._load_s = self._load_s, {"own": own_s}
        passed_s, self._load_at = at - self._load_at, at
        same, self._trainer = (pid or 0) == self._trainer, pid or 0
        if trainer_s is not None:
            self._load_s["trainer"] = trainer_s
        if busy_s is not None:
            self._load_s["busy"] = busy_s
        took = {n: (s - before[n]) / passed_s for n, s in self._load_s.items() if n in before}
        if not same or "trainer" not in took:
            return None, None
        trainer = max(took["trainer"], 0.0)
        if "busy" not in took:
            return trainer, None
        return trainer, max(took["busy"] - took["own"] - trainer, 0.0)

    def _pressure(self) -> float | None:
        now = _run_and_wait_s(self._frames_thread)
        if now is None:
            return None
        ran_s, waited_s = (b - a for a, b in zip(self._ran_and_waited_s, now, strict=True))
        self._ran_and_waited_s = now
        return waited_s / (ran_s + waited_s) if waited_s > _MIN_WAIT_S else 0.0


def _resident() -> dict[str, int]:
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm") as file:
        return {"rss": int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")}
    return {}


def _run_and_wait_s(thread_id: int) -> tuple[float, float] | None:
    """Return how long a thread has run, and has waited for a processor, since it began."""
    with suppress(OSError, ValueError), open(f"/proc/self/task/{thread_id}/schedstat") as file:
        run_ns, wait_ns, _ = map(int, file.read().split())
        return run_ns / 1e9, wait_ns / 1e9
    return None
