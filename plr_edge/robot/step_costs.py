"""Step costs: what a training step costs at each level on the machine that trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_KEPT = 0.98  # of the evidence before, from one second to the next
_LEAST_SPREAD = 0.05  # of the training load: with less, watts cannot be attributed to it
_LEAST_W = 0.01


class TrainingPower:
    """Watts that training takes beyond the rest, by regression of the board's watts on its load.

    The evidence fades with a time constant of a minute, so that other loads do not stay in it.
    """

    def __init__(self) -> None:
        """Start with nothing measured."""
        self._n = self._load = self._watts = self._load2 = self._both = 0.0

    def add(self, power_w: float | None, trainer_cores: float | None) -> None:
        """Take in a second.

        Args:
            power_w: mean power of the board. None if nothing measures it.
            trainer_cores: processors that the trainer took. None if unknown.
        """
        if power_w is None or trainer_cores is None:
            return
        x, y = trainer_cores, power_w
        values = (1.0, x, y, x * x, x * y)
        names = ("_n", "_load", "_watts", "_load2", "_both")
        for name, value in zip(names, values, strict=True):
            setattr(self, name, _KEPT * getattr(self, name) + value)

    @property
    def watts(self) -> float | None:
        """Watts of one processor that trains. None if they cannot be determined yet."""
        if self._n < 1:
            return None
        spread = self._load2 / self._n - (self._load / self._n) ** 2
        if spread < _LEAST_SPREAD**2:
            return None
        watts = (self._both / self._n - self._load * self._watts / self._n**2) / spread
        return watts if watts >= _LEAST_W else None


def level_costs(
    names: Sequence[str],
    shares: Sequence[float],
    step_s: Sequence[float],
    watts: float | None,
    needed_bytes: Sequence[int] | None,
    gains: Sequence[float],
) -> list[dict[str, Any]]:
    """Return what is known of each level, as a table that fits JSON.

    Args:
        names: names of the levels.
        shares: share of the steps now.
        step_s: seconds of one step, on one processor.
        watts: watts of a processor that trains. None if they are not measured.
        needed_bytes: memory that the trainer needs if steps enter there. None if it has no limit,
            and so was not measured.
        gains: points of accuracy that a long cycle there is expected to gain.
    """
    return [
        {
            "level": name,
            "share": round(shares[i], 4),
            "step_ms": round(1e3 * step_s[i], 3),
            "step_mj": None if watts is None else round(1e3 * step_s[i] * watts, 3),
            "needs_bytes": None if needed_bytes is None else needed_bytes[i],
            "gain": round(gains[i], 2),
        }
        for i, name in enumerate(names)
    ]
