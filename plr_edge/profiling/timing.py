"""Measures time and energy of calls, in turns. Knows clocks and meters, not what is called."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plr_edge.meters import EnergyReading, PowerMeter, net_energy

_TURNS = 5
_WINDOW_S, _WINDOWS = 1.0, 2  # for energy: power counters tick in tens of milliseconds


@dataclass
class Job:
    """A call to measure.

    Attributes:
        row: description of the call, to which the results are added.
        call: the call.
        runs: number of timed calls.
        has_energy: whether to measure energy too.
    """

    row: dict[str, Any]
    call: Callable[[], object]
    runs: int = 50
    has_energy: bool = True
    _gross_mj: dict[str, float] = field(default_factory=dict)
    _net_mj: dict[str, float] = field(default_factory=dict)
    _n_calls: int = 0

    def window(self, meters: Sequence[PowerMeter], idle: Mapping[str, EnergyReading]) -> None:
        """Repeat the call for a while, and add up the energy that the meters read."""
        for meter in meters:
            meter.start()
        start = time.monotonic()
        while time.monotonic() - start < _WINDOW_S:
            self.call()
            self._n_calls += 1
        for reading in [meter.stop() for meter in meters]:
            net = net_energy(reading, idle[reading.source])
            if net is not None:
                for sums, value in ((self._gross_mj, net.gross_mj), (self._net_mj, net.net_mj)):
                    sums[net.source] = sums.get(net.source, 0.0) + value

    def keep_energy(self) -> None:
        """Write the millijoules per call, by meter, into the row."""
        for name, sums in (("energy_mj", self._gross_mj), ("net_mj", self._net_mj)):
            self.row[name] = {source: mj / self._n_calls for source, mj in sums.items()}


def measure_ms(
    calls: Sequence[Callable[[], object]],
    runs: int = 50,
    warmup: int = 5,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[dict[str, float]]:
    """Time calls in turns.

    Args:
        calls: the calls to compare.
        runs: number of timed calls of each.
        warmup: untimed calls of each before.
        clock_ns: the clock, which tests replace.

    Returns:
        A dict per call with p50_ms, p90_ms, p99_ms and runs.
    """
    for call in calls:
        for _ in range(warmup):
            call()
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(_TURNS):
        for call, own in zip(calls, times, strict=True):
            while len(own) < runs * (turn + 1) // _TURNS:
                start = clock_ns()
                call()
                own.append((clock_ns() - start) / 1e6)
    results = []
    for own in times:
        p50, p90, p99 = (float(x) for x in np.percentile(own, (50, 90, 99)))
        results.append({"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "runs": len(own)})
    return results


def measure(
    jobs: Sequence[Job],
    warmup: int,
    meters: Sequence[PowerMeter],
    idle: Mapping[str, EnergyReading],
) -> None:
    """Measure jobs in turns: first time, then energy if there is a meter.

    Args:
        jobs: the jobs. All get as many runs as the first.
        warmup: untimed calls of each before.
        meters: meters of power, not running.
        idle: reading of each meter while the machine was idle.
    """
    runs = jobs[0].runs
    timings = measure_ms([job.call for job in jobs], runs, min(warmup, runs))
    for job, timing in zip(jobs, timings, strict=True):
        job.row.update(timing)
    measured = [job for job in jobs if job.has_energy and meters]
    for _ in range(_WINDOWS):
        for job in measured:
            job.window(meters, idle)
    for job in measured:
        job.keep_energy()
