"""The two ways to measure energy: integrate power over time, or take differences of a counter.

Both call a function that returns the values of all readable rails. A missing rail was unreadable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from plr_edge.meters.base import Clock, PowerMeter

SAMPLE_EVERY_S = 0.05  # INA3221: below 10 ms there is only noise, 20..100 ms works well
COUNT_EVERY_S = 30.0  # a counter must be read before it wraps around twice
MISSED_SHARE = 0.1  # a rail that misses more of its samples than this is not reported

Read = Callable[[], Mapping[str, float]]


@dataclass
class _Rail:
    """Accumulated value of one rail."""

    sum: float = 0.0  # mW ns when integrating, mJ when counting
    value: float = 0.0  # value of the last good sample
    at: int = -1  # index of the last good sample; -1 before the first
    at_ns: int = 0
    first_at: int = -1
    missed: int = 0
    broken: str = ""  # why the sum is invalid


@dataclass
class _Rails:
    """The rails of one measurement, and the number of samples."""

    n_samples: int = 0
    by_name: dict[str, _Rail] = field(default_factory=dict)

    def good(self, missed_share: float) -> tuple[dict[str, float], list[str]]:
        """Return the sums of the rails that were read throughout, and notes on the others."""
        sums: dict[str, float] = {}
        notes: list[str] = []
        for name, rail in self.by_name.items():
            if rail.broken:
                notes.append(f"{name} absent: {rail.broken}")
            elif rail.first_at != 0 or rail.at != self.n_samples - 1:
                notes.append(f"{name} absent: not readable throughout")
            elif rail.missed > missed_share * self.n_samples:
                notes.append(f"{name} absent: {rail.missed} of {self.n_samples} samples failed")
            else:
                sums[name] = rail.sum
                if rail.missed:
                    notes.append(f"{name}: {rail.missed} failed samples were bridged")
        return sums, notes


class _ReadingMeter(PowerMeter):
    """A meter that reads all rails with one function."""

    missed_share = MISSED_SHARE

    def __init__(
        self,
        name: str,
        rails: Sequence[str],
        total_rails: Sequence[str],
        read: Read,
        *,
        interval_s: float | None,
        clock_ns: Clock = time.monotonic_ns,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            name, rails, total_rails, interval_s=interval_s, clock_ns=clock_ns, notes=notes
        )
        self.read = read
        self._reset()

    def _reset(self) -> None:
        self._state = _Rails(by_name={rail: _Rail() for rail in self.rails})

    def _take(self, now_ns: int) -> None:
        values = self.read()
        for name, rail in self._state.by_name.items():
            if name not in values:
                rail.missed += 1
                continue
            if rail.at < 0:
                rail.first_at = self._state.n_samples
            else:
                self._add(name, rail, values[name], now_ns)
            rail.value, rail.at, rail.at_ns = values[name], self._state.n_samples, now_ns
        self._state.n_samples += 1

    def _add(self, name: str, rail: _Rail, value: float, now_ns: int) -> None:
        raise NotImplementedError

    def _energies_mj(self) -> tuple[dict[str, float], list[str]]:
        return self._state.good(self.missed_share)


class IntegratingMeter(_ReadingMeter):
    """Integrates power by the trapezoidal rule; `read` returns mW per rail."""

    def _add(self, name: str, rail: _Rail, value: float, now_ns: int) -> None:
        rail.sum += (rail.value + value) / 2 * (now_ns - rail.at_ns)

    def _energies_mj(self) -> tuple[dict[str, float], list[str]]:
        sums, notes = super()._energies_mj()
        return {name: total / 1e9 for name, total in sums.items()}, notes  # mW ns -> mJ


class CountingMeter(_ReadingMeter):
    """Takes differences of an energy counter; `read` returns mJ per rail.

    Args:
        range_mj: value at which each counter wraps around. A rail without it is dropped if its
            counter decreases.
    """

    missed_share = 1.0  # a counter goes on counting between samples

    def __init__(
        self,
        name: str,
        rails: Sequence[str],
        total_rails: Sequence[str],
        read: Read,
        *,
        range_mj: Mapping[str, float] | None = None,
        interval_s: float | None = COUNT_EVERY_S,
        clock_ns: Clock = time.monotonic_ns,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            name, rails, total_rails, read, interval_s=interval_s, clock_ns=clock_ns, notes=notes
        )
        self.range_mj = {} if range_mj is None else dict(range_mj)

    def _add(self, name: str, rail: _Rail, value: float, now_ns: int) -> None:
        change = value - rail.value
        if change < 0:
            change += self.range_mj.get(name, 0.0)
        if change < 0:
            rail.broken = "its counter decreased"
        rail.sum += change
