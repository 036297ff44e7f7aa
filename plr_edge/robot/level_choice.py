"""Level choice: at which level a cycle of consolidation enters. Pure arithmetic.

While frames come, steps below the classifier gain nothing, so the classifier alone is trained. A
cycle enters all its steps at one level: at which one follows from how many steps its budget buys at
each, and from what cycles at that level gained lately on the held-out labels. So small budgets go
to the deepest level, and what an idle or charging robot has left goes to earlier ones.

The gains to begin with come from benchmarks/results.md: two points from cycles at level 1 at 1.5
multiply-adds for each one of perception, and nothing more than from steps at the classifier below
a ratio of 0.3. Evidence is weighed as in a Kalman filter with one state for each level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plr_edge.replay.schedule import Schedule

WHILE_FRAMES_COME = "earlier levels pay only in a cycle"
_GAINS = 0.3, 2.0  # points of accuracy that long cycles gain: at the classifier, at level 1
_SATURATES = 80.0  # steps of a cycle after which it has gained two thirds of what it can
_SPREAD = 2.0  # standard deviation of the gain of a level between streams, in points
_DRIFT = 0.5  # by which it changes from one cycle to the next
_FORGET = 0.1  # share of what was learned about a level that a cycle at another one takes away
_FLIPPED = 0.06  # share of held-out labels that a cycle flips, one way or the other


@dataclass(frozen=True)
class LevelChoice:
    """Where a cycle enters.

    Attributes:
        level: index of the level.
        n_steps: steps that the budget buys there.
        gain: points of accuracy that are expected of them.
        reason: why this level, in one line.
    """

    level: int
    n_steps: float
    gain: float
    reason: str

    def schedule(self, n_levels: int) -> Schedule:
        """Return the schedule that enters there with every step."""
        shares = tuple(float(i == self.level) for i in range(n_levels))
        return Schedule(name="auto", shares=shares)


class LevelWorth:
    """What cycles at each level are worth, from what they gained lately.

    Attributes:
        gains: points of accuracy on the held-out labels that a long cycle gains, by level.
    """

    def __init__(self, macs: Sequence[float], facts: Mapping[str, Any] | None = None) -> None:
        """Start from the gains of the benchmarks, or from those of an earlier run.

        Args:
            macs: multiply-adds of a forward pass from each level up.
            facts: from `facts`. Those of another number of levels are not used.
        """
        deepest, first = _GAINS
        self._prior = [deepest + (first - deepest) * m / max(macs[0], 1.0) for m in macs]
        self._prior[-1] = deepest
        self.gains, self._variances = list(self._prior), [_SPREAD**2] * len(macs)
        if facts is not None and len(facts["gains"]) == len(facts["variances"]) == len(macs):
            self.gains, self._variances = list(facts["gains"]), list(facts["variances"])

    def facts(self) -> dict[str, list[float]]:
        """Return what to keep until the next run."""
        return {"gains": self.gains, "variances": self._variances}

    def expected(self, level: int, n_steps: float) -> float:
        """Return the points of accuracy that so many steps at a level are expected to gain."""
        return self.gains[level] * _reached(n_steps)

    def choose(
        self, names: Sequence[str], n_steps: Sequence[float], allowed: Sequence[bool] | None = None
    ) -> LevelChoice:
        """Choose the level of which most is expected. The deepest is always allowed.

        Args:
            names: names of the levels.
            n_steps: steps that the budget buys at each level.
            allowed: whether the memory of the trainer suffices for a level.
        """
        deepest = len(names) - 1
        usable = [i for i in range(deepest + 1) if i == deepest or allowed is None or allowed[i]]
        gains = [self.expected(i, n_steps[i]) for i in range(deepest + 1)]
        best = max(usable, key=lambda i: (gains[i], i))
        others = [i for i in {0, deepest} if i != best]
        compared = "; ".join(
            f"{names[i]} {n_steps[i]:,.0f} for {gains[i]:+.1f}" if i in usable
            else f"{names[i]} needs more memory than the limit" for i in sorted(others)
        )  # fmt: skip
        reason = f"{names[best]}: {n_steps[best]:,.0f} steps for {gains[best]:+.1f} points"
        reason += f" ({compared})" if compared else ""
        return LevelChoice(best, n_steps[best], gains[best], reason)

    def observe(self, level: int, n_steps: float, gain: float, n_held_out: int) -> None:
        """Take in what a cycle gained.

        Args:
            level: level that it entered.
            n_steps: its training steps.
            gain: points of accuracy that it gained on the held-out labels, or lost.
            n_held_out: number of held-out labels.
        """
        for i, prior in enumerate(self._prior):
            if i != level:
                self.gains[i] += _FORGET * (prior - self.gains[i])
                self._variances[i] += _FORGET * (_SPREAD**2 - self._variances[i])
        reached = _reached(n_steps)
        if n_held_out == 0 or reached == 0:
            return
        variance = self._variances[level] + _DRIFT**2
        noise = 100.0**2 * _FLIPPED / n_held_out / reached**2
        weight = variance / (variance + noise)
        self.gains[level] += weight * (gain / reached - self.gains[level])
        self._variances[level] = (1 - weight) * variance


def steps_within(
    step_macs: Sequence[float],
    step_s: Sequence[float],
    core_share: float,
    macs: float | None = None,
    seconds: float | None = None,
) -> list[float]:
    """Return how many steps a budget buys at each level.

    Args:
        step_macs: multiply-adds of one step at each level.
        step_s: seconds of one step at each level, on one core.
        core_share: share of a core that the budgets leave to training. Power and heat are in it:
            the governor lowers it until they are kept.
        macs: multiply-adds that may be spent. None for no limit.
        seconds: time that may be spent. None for no limit.
    """
    return [
        min(
            math.inf if macs is None else macs / max(m, 1.0),
            math.inf if seconds is None else seconds * core_share / max(s, 1e-9),
        )
        for m, s in zip(step_macs, step_s, strict=True)
    ]


def _reached(n_steps: float) -> float:
    """Return which share of its gain a cycle of so many steps reaches."""
    return 1.0 - math.exp(-n_steps / _SATURATES)
