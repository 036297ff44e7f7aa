"""Consolidation: train the adaptive blocks over the whole latent memory, in one annealed cycle.

While frames come, the multiply-adds that the budget allows are banked; a robot also trains the
classifier. Spent together at the end, with a learning rate that rises and then falls to zero, they
gain several times as much as spent evenly: measured on CIFAR-100 and grocery. A cycle
ends in a candidate, which answers only if the publish gate agrees. Without torch, so that
perception can read budgets.

Source of the rate: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
ICLR 2017.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plr_edge.errors import ConfigError, StateError
from plr_edge.replay.schedule import Schedule
from plr_edge.store import Store

if TYPE_CHECKING:  # perception reads budgets, and never loads torch
    from plr_edge.replay.learner import Learner

_BLOCKS_LR, _CLASSIFIER_LR = 0.01, 0.2  # at the top of the cycle
_WARM_UP = 0.05  # share of the cycle
_REPORT_EVERY_S = 0.5
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_MACS = {"mmac": 1e6, "gmac": 1e9, "tmac": 1e12}


@dataclass(frozen=True, kw_only=True)
class ConsolidationBudget:
    """What a cycle may spend. At least one limit is given.

    Attributes:
        macs: multiply-adds.
        seconds: wall-clock time.
    """

    macs: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        """Return it as a user writes it."""
        if self.macs:
            return f"{self.macs / 1e9:.4g}GMAC"
        return f"{self.seconds or 0.0:.4g}s"


def parse_budget(text: str) -> ConsolidationBudget:
    """Read a budget such as `90s`, `5min`, `1h`, `500GMAC` or `2TMAC`.

    Raises:
        ConfigError: the text is not a budget.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    unit = match[2].lower() if match else ""
    if not match or unit not in {**_SECONDS, **_MACS} or float(match[1]) <= 0:
        raise ConfigError(
            f"budget is {text[:40]!r}; write a time like 90s, 5min or 1h, or multiply-adds like "
            "500GMAC or 2TMAC"
        )
    amount = float(match[1])
    if unit in _SECONDS:
        return ConsolidationBudget(seconds=amount * _SECONDS[unit])
    return ConsolidationBudget(macs=amount * _MACS[unit])


def remember(store: Store, **facts: Any) -> None:
    """Keep in a state that its labels were consolidated, if the disk takes it.

    Args:
        store: the state.
        facts: what else to keep about it: `upto`, the last of these labels, and `worth`.
    """
    kept = {**recalled(store), "upto": store.last_seq, **facts}
    with suppress(StateError):
        store.facts.keep(consolidation=kept)


def recalled(store: Store) -> dict[str, Any]:
    """Return what `remember` kept."""
    kept: dict[str, Any] = store.facts.get("consolidation", {})
    return kept


@dataclass(frozen=True)
class Progress:
    """How far a cycle is.

    Attributes:
        share: share of its budget that is spent, 0..1.
        n_steps: training steps so far.
        left_s: seconds left at the pace so far.
    """

    share: float
    n_steps: int
    left_s: float


class Cycle:
    """One cycle, a training step at a time.

    Schedule and rates of the learner are its own again after each step. So other steps may come
    between those of a cycle, and a cycle ends early when `step` is not called any more.

    Attributes:
        schedule: share of the steps per level.
        n_steps: training steps so far.
        macs: multiply-adds that they took.
    """

    def __init__(
        self,
        learner: Learner,
        schedule: Schedule,
        budget: ConsolidationBudget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock, and train nothing yet.

        Args:
            learner: trained in place.
            schedule: share of the steps per level.
            budget: what may be spent.
            clock: seconds.
        """
        self.schedule, self.n_steps, self.macs = schedule, 0, 0
        self._learner, self._budget, self._clock = learner, budget, clock
        self._began = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the start, without those without."""
        return self._clock() - self._began

    @property
    def progress(self) -> Progress:
        """How far it is."""
        budget = self._budget
        share = max(
            self.macs / budget.macs if budget.macs else 0.0,
            self.seconds / budget.seconds if budget.seconds else 0.0,
        )
        left_s = self.seconds * (1 - share) / max(share, 1e-6)
        return Progress(min(share, 1.0), self.n_steps, max(left_s, 0.0))

    def skip(self, seconds: float) -> None:
        """Leave out time in which nothing was to be trained."""
        self._began += seconds

    def step(self) -> int | None:
        """Do one training step.

        Returns:
            Index of the level that it entered. None once the budget is spent, if there are fewer
            than two classes, or if training diverged.
        """
        share, learner = self.progress.share, self._learner
        if share >= 1.0:
            return None
        kept, rates, before = learner.schedule, learner.rates, learner.features.cost.macs
        fall = (1 + math.cos(math.pi * share)) / 2
        rise = min(1.0, (share + 1e-3) / _WARM_UP)
        try:
            learner.schedule = self.schedule
            learner.rates = _BLOCKS_LR * rise * fall, _CLASSIFIER_LR * fall
            level = learner.step(with_newest=False)
        finally:
            learner.schedule, learner.rates = kept, rates
        if level is not None:
            self.n_steps += 1
            self.macs += learner.features.cost.macs - before
        return level


def run_cycle(
    learner: Learner,
    schedule: Schedule,
    budget: ConsolidationBudget,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> int:
    """Train one cycle. A KeyboardInterrupt ends it early and is raised.

    Args:
        learner: trained in place.
        schedule: share of the steps per level.
        budget: what may be spent.
        on_progress: called about twice a second.

    Returns:
        Number of training steps. 0 if there are fewer than two classes.
    """
    cycle, reported = Cycle(learner, schedule, budget), time.monotonic()
    while cycle.step() is not None:
        now = time.monotonic()
        if now - reported >= _REPORT_EVERY_S:
            reported = now
            on_progress(cycle.progress)
    return cycle.n_steps
