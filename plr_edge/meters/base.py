"""PowerMeter: measures the energy of power rails between `start()` and `stop()`.

A rail that cannot be read is absent from the reading, never zero. The sensors are in other modules.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

Clock = Callable[[], int]  # returns monotonic nanoseconds


@dataclass(frozen=True, kw_only=True)
class EnergyReading:
    """The energy that one meter measured between `start()` and `stop()`.

    Attributes:
        source: name of the meter.
        seconds: time from the first sample to the last.
        samples: number of samples.
        rails_mj: energy of each rail in millijoules; only rails that were read throughout.
        total_mj: energy of the total; None if a rail of the total was not read throughout.
        notes: what a reader of the figures should know, one line each.
    """

    source: str
    seconds: float
    samples: int
    rails_mj: dict[str, float]
    total_mj: float | None
    notes: tuple[str, ...] = ()

    @property
    def mean_w(self) -> float | None:
        """Mean power of the total in watts; None if there is no total or no time has passed."""
        if self.total_mj is None or self.seconds <= 0:
            return None
        return self.total_mj / 1000 / self.seconds


class PowerMeter(ABC):
    """Power rails, sampled by a background thread or by calls of `sample()`.

    Args:
        name: name of the meter; the `source` of its readings.
        rails: every rail that the meter can read.
        total_rails: the rails that add up to the total; empty if none do.
        interval_s: time between samples. None starts no thread; call `sample()` instead.
        clock_ns: monotonic clock in nanoseconds; tests replace it.
        notes: what a reader of the figures should know, one line each.
    """

    def __init__(
        self,
        name: str,
        rails: Sequence[str],
        total_rails: Sequence[str],
        *,
        interval_s: float | None,
        clock_ns: Clock = time.monotonic_ns,
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.rails = tuple(rails)
        self.total_rails = tuple(total_rails)
        self.notes = tuple(notes)
        self.interval_s = interval_s
        self.clock_ns = clock_ns
        self.reading: EnergyReading | None = None  # result of the last `stop()`
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._running = False

    @property
    def has_total(self) -> bool:
        """Whether there is a total, and all of its rails can be read."""
        return bool(self.total_rails) and set(self.total_rails) <= set(self.rails)

    @abstractmethod
    def _reset(self) -> None:
        """Clear the previous measurement."""

    @abstractmethod
    def _take(self, now_ns: int) -> None:
        """Read every rail once and accumulate it."""

    @abstractmethod
    def _energies_mj(self) -> tuple[dict[str, float], list[str]]:
        """Return the energy of the rails that were read throughout, and a note on every other."""

    def start(self) -> None:
        """Start a measurement and take the first sample."""
        assert not self._running, f"meter {self.name} is already running"
        self._reset()
        self._samples, self._first_ns, self._last_ns, self._longest_ns = 0, 0, 0, 0
        self._running = True
        self.sample()
        if self.interval_s is not None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._loop, name=f"meter-{self.name}")
            self._thread.daemon = True
            self._thread.start()

    def _loop(self) -> None:
        while not self._stopping.wait(self.interval_s):
            self.sample()

    def sample(self) -> None:
        """Take one sample; the background thread calls this too."""
        with self._lock:
            now_ns = self.clock_ns()
            if self._samples == 0:
                self._first_ns = now_ns
            else:
                self._longest_ns = max(self._longest_ns, now_ns - self._last_ns)
            self._take(now_ns)
            self._last_ns = now_ns
            self._samples += 1

    def stop(self) -> EnergyReading:
        """Take the last sample, end the measurement, and return the reading."""
        assert self._running, f"meter {self.name} was not started"
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None
        self.sample()
        self._running = False
        rails_mj, notes = self._energies_mj()
        self.reading = EnergyReading(
            source=self.name,
            seconds=(self._last_ns - self._first_ns) / 1e9,
            samples=self._samples,
            rails_mj=rails_mj,
            total_mj=self._total_mj(rails_mj),
            notes=(*self.notes, *notes, *self._gap_notes()),
        )
        return self.reading

    def _total_mj(self, rails_mj: dict[str, float]) -> float | None:
        if not self.total_rails or any(rail not in rails_mj for rail in self.total_rails):
            return None
        return sum(rails_mj[rail] for rail in self.total_rails)

    def _gap_notes(self) -> list[str]:
        """Return a note if a busy machine kept the thread from sampling in time."""
        if self.interval_s is None or self._longest_ns <= 10e9 * self.interval_s:
            return []
        return [f"longest gap between samples {self._longest_ns / 1e9:.2f} s"]

    def __enter__(self) -> PowerMeter:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running:
            self.stop()
