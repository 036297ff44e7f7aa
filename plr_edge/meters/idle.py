"""Gross, idle and net energy: what a piece of work took beyond what the machine takes anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plr_edge.meters.base import EnergyReading, PowerMeter

IDLE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class NetEnergy:
    """The energy of a piece of work, three ways; the samples say how well each is known.

    Attributes:
        source: name of the meter.
        gross_mj: all that the meter saw during the work.
        idle_mj: what it would have seen in the same time without the work.
        net_mj: gross less idle; may fall below 0 where the work is lost in the noise.
        seconds: of the work.
        samples: taken during the work.
        idle_w: mean power before the work.
        idle_seconds: for which the machine was left alone.
        idle_samples: taken meanwhile.
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
    """Do nothing for a while, and return what each meter saw, by its name.

    Args:
        meters: that are not running.
        seconds: long enough for some hundred samples.
        sleep: which tests replace.
    """
    for meter in meters:
        meter.start()
    sleep(seconds)
    return {meter.name: meter.stop() for meter in meters}


def net_energy(work: EnergyReading, idle: EnergyReading) -> NetEnergy | None:
    """Subtract the idle baseline from a reading; None where either has no total.

    Args:
        work: read during the work.
        idle: of the same meter, from `measure_idle` before it.
    """
    assert work.source == idle.source, f"{work.source} measured the work, {idle.source} the rest"
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
