"""Starvation: other programs leave training no processor, so that nothing taught is trained on.

The governor keeps a floor for training then. The robot says what training gets, and who takes the
rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from plr_edge.robot.governor import Decision, Governor, Reading

_WINDOW_S = 30.0
_LEAST_S = 20.0  # of a window that must be covered
_GOT = 0.5  # share of the floor below which training starves whatever is allowed
_MOSTLY = 0.5  # share of the time in which programs must compete for the processor


@dataclass(frozen=True)
class _Second:
    """What was measured between two decisions."""

    passed_s: float
    steps_per_s: float
    wanted: float
    floor: float
    contended: bool
    trainer_cores: float | None
    others_cores: float | None


class Starvation:
    """Notices it over half a minute in which there was something to train."""

    def __init__(self, n_cores: int) -> None:
        """Start with nothing measured.

        Args:
            n_cores: processors of the machine.
        """
        self._n_cores = n_cores
        self._window: deque[_Second] = deque()

    def add(
        self, reading: Reading, decision: Decision, governor: Governor, passed_s: float, *,
        wanted: bool,
    ) -> None:  # fmt: skip
        """Take in a decision.

        Args:
            reading: what it was based on.
            decision: what was decided.
            governor: who decided, and knows floor and ceiling.
            passed_s: seconds since the one before.
            wanted: whether there was something to train.
        """
        if not wanted or (decision.exceeded and not decision.contended):
            self._window.clear()  # nothing to do, or a budget of the user's own
            return
        self._window.append(
            _Second(passed_s, reading.steps_per_s, governor.ceiling, governor.floor,
                    decision.contended, reading.trainer_cores, reading.others_cores)
        )  # fmt: skip
        while sum(s.passed_s for s in self._window) - self._window[0].passed_s > _WINDOW_S:
            self._window.popleft()

    def facts(self) -> dict[str, Any] | None:
        """Return what training gets and wants. None if it does not starve.

        Returns:
            `steps_per_s` and `wanted_steps_per_s`; `trainer_cores`, `others_cores` and `cores`:
            processors that training and other programs took, and those of the machine. None where
            the system does not say.
        """
        total_s = sum(s.passed_s for s in self._window)
        if total_s < _LEAST_S:
            return None
        got = self._mean("steps_per_s") or 0.0
        floor, wanted = self._mean("floor") or 0.0, self._mean("wanted") or 0.0
        contended = sum(s.passed_s for s in self._window if s.contended) / total_s
        at_floor = contended >= _MOSTLY and got <= 2 * floor < 0.5 * wanted
        if got >= _GOT * floor and not at_floor:
            return None
        own, others = self._mean("trainer_cores"), self._mean("others_cores")
        return {
            "steps_per_s": round(got, 3),
            "wanted_steps_per_s": round(wanted, 1),
            "trainer_cores": None if own is None else round(own, 3),
            "others_cores": None if others is None else round(others, 2),
            "cores": self._n_cores,
        }

    @property
    def text(self) -> str:
        """The same in a sentence. Empty if training does not starve."""
        facts = self.facts()
        if facts is None:
            return ""
        text = (
            f"training got {facts['steps_per_s']:.2g} of {facts['wanted_steps_per_s']:.3g} "
            f"steps/s in the last {_WINDOW_S:.0f} s"
        )
        if facts["trainer_cores"] is not None:
            text += f" ({facts['trainer_cores']:.2f} of a core)"
        if facts["others_cores"] is not None:
            text += (
                f"; other programs take {facts['others_cores']:.1f} of {facts['cores']} processors"
            )
        return text

    def _mean(self, name: str) -> float | None:
        pairs = [(getattr(s, name), s.passed_s) for s in self._window]
        known = [(value, s) for value, s in pairs if value is not None]
        if not known:
            return None
        return float(sum(value * s for value, s in known) / sum(s for _, s in known))
