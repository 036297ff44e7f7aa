"""Net energy: what a piece of work took beyond the idle consumption of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plr_edge.meters.base import EnergyReading, PowerMeter

IDLE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class NetEnergy:
    """Gross, idle and net energy of a piece of work; the sample counts tell how reliable they are.

    Attributes:
        source: name of the meter.
        gross_mj: energy measured during the work, in millijoules.
        idle_mj: energy that the idle machine would have taken in the same time.
        net_mj: gross minus idle; may be negative if the work is within the noise.
        seconds: duration of the work.
        samples: number of samples during the work.
        idle_w: mean power in watts before the work.
        idle_seconds: duration of the idle measurement.
        idle_samples: number of samples during the idle measurement.
    """

    source: str
    gross_mj: float
    idle_mj: float
    net_mj: float
    seconds: float
    samples: int
    idle_w: float
    idle_seconds: float
    idle_samples: int


def measure_idle(
    meters: Sequence[PowerMeter],
    seconds: float = IDLE_S,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, EnergyReading]:
    """Measure the idle machine, and return the reading of each meter by its name.

    Args:
        meters: meters that are not running.
        seconds: duration; long enough for some hundred samples.
        sleep: waits for a number of seconds; tests replace it.
    """
    for meter in meters:
        meter.start()
    sleep(seconds)
    return {meter.name: meter.stop() for meter in meters}


def net_energy(work: EnergyReading, idle: EnergyReading) -> NetEnergy | None:
    """Subtract the idle baseline from a reading; None if either has no total.

    Args:
        work: reading during the work.
        idle: reading of the same meter, from `measure_idle` before the work.
    """
    assert work.source == idle.source, (
        f"{work.source} measured the work, {idle.source} the idle machine"
    )
    if work.total_mj is None or idle.mean_w is None:
        return None
    idle_mj = idle.mean_w * 1000 * work.seconds
    return NetEnergy(
        source=work.source,
        gross_mj=work.total_mj,
        idle_mj=idle_mj,
        net_mj=work.total_mj - idle_mj,
        seconds=work.seconds,
        samples=work.samples,
        idle_w=idle.mean_w,
        idle_seconds=idle.seconds,
        idle_samples=idle.samples,
    )
