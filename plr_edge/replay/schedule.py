"""Schedules of rehearsal: what share of it enters at which level.

Knows levels by name, size and cost, nothing of networks or data. Standard library only.

Source: Pawlak et al., "Progressive Latent Replay for efficient Generative Rehearsal", arXiv
2207.01562; the named schedules are those of the authors' code, but `progressive` and `measured`,
which are ours.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from plr_edge.errors import ScheduleError


@dataclass(frozen=True, kw_only=True)
class Level:
    """The input of one trainable block; the last one is the input of the classifier.

    Attributes:
        name: the block entered here.
        shape: (C, H, W) or (D,) of one sample.
        weights: parameters of the block, biases included.
        macs: multiply-adds of the block's forward pass for one sample.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    macs: int

    @property
    def width(self) -> int:
        """Values in one sample's feature at this level."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Shares of rehearsal per level; they add up to one.

    Attributes:
        name: how the shares came about.
        shares: f_1 .. f_L.
    """

    name: str
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.shares or any(not math.isfinite(s) or s < 0 for s in self.shares):
            raise ScheduleError(f"shares are {self.shares}; each must be a number of at least 0")
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-9):
            raise ScheduleError(f"shares add up to {sum(self.shares):g}; they must add up to 1")

    @property
    def reach(self) -> tuple[float, ...]:
        """u_1 .. u_L: the share of rehearsal that touches each block (PLR, section 3)."""
        return tuple(accumulate(self.shares))

    def relative_cost(self, costs: Sequence[float]) -> float:
        """Return C(f) = sum_l c_l u_l over sum_l c_l, 1.0 for Internal Replay.

        Args:
            costs: one a block, in any unit; the authors use the number of weights.
        """
        return sum(c * u for c, u in zip(costs, self.reach, strict=True)) / sum(costs)


def fully_connected(widths: Sequence[int]) -> tuple[Level, ...]:
    """Return the levels of a fully connected classifier.

    Args:
        widths: of the latent, of each hidden layer, and the number of classes.
    """
    return tuple(
        Level(name=f"fc{i}", shape=(wide,), weights=(wide + 1) * narrow, macs=wide * narrow)
        for i, (wide, narrow) in enumerate(pairwise(widths), 1)
    )


def macs_from(levels: Sequence[Level]) -> list[int]:
    """Return the multiply-adds of one sample's forward pass from each level up."""
    return [sum(level.macs for level in levels[i:]) for i in range(len(levels))]


def apportion(shares: Sequence[float], n: int) -> list[int]:
    """Split `n` rehearsed latents over the levels, in whole numbers that add up to `n`."""
    exact = [n * share / sum(shares) for share in shares]
    counts = [int(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    return counts


def internal(levels: Sequence[Level]) -> list[float]:
    """Enter everything at level 1: Internal Replay."""
    return [1.0] + [0.0] * (len(levels) - 1)


def basic(levels: Sequence[Level]) -> list[float]:
    """Give each level the same share."""
    return [1.0] * len(levels)


def cumulative_weights(levels: Sequence[Level]) -> list[float]:
    """Weigh a level by one over the weights from its block up."""
    return [1.0 / max(1, sum(x.weights for x in levels[i:])) for i in range(len(levels))]


def total_weights(levels: Sequence[Level]) -> list[float]:
    """Weigh a level by one over the weights of its block."""
    return [1.0 / max(1, level.weights) for level in levels]


def input_size(levels: Sequence[Level]) -> list[float]:
    """Weigh a level by the width of its feature."""
    return [float(level.width) for level in levels]


def layer_idx(levels: Sequence[Level]) -> list[float]:
    """Weigh a level by its number, from 1."""
    return [float(i) for i in range(1, len(levels) + 1)]


def progressive(levels: Sequence[Level]) -> list[float]:
    """Give the classifier four fifths and each block an equal part of the rest: our default."""
    if len(levels) == 1:
        return [1.0]
    return [0.2 / (len(levels) - 1)] * (len(levels) - 1) + [0.8]


SCHEDULES: dict[str, Callable[[Sequence[Level]], list[float]]] = {
    "internal": internal,
    "basic": basic,
    "cumulative_weights": cumulative_weights,
    "total_weights": total_weights,
    "input_size": input_size,
    "layer_idx": layer_idx,
    "progressive": progressive,
}


def make_schedule(
    spec: str, levels: Sequence[Level], step_costs: Sequence[float] | None = None
) -> Schedule:
    """Build the schedule that `spec` names.

    Args:
        spec: a name in `SCHEDULES`, `measured`, or shares separated by commas, level 1 first.
        levels: of the adaptive part, level 1 first, the classifier last.
        step_costs: cost of one training step at each level, for `measured`; any unit.

    Raises:
        ScheduleError: the name is unknown, or the list does not fit the levels.
    """
    if spec == "measured":
        weights = _measured(levels, step_costs)
    elif spec in SCHEDULES:
        weights = SCHEDULES[spec](levels)
    else:
        weights = _parse_shares(spec, levels)
    total = sum(weights)
    return Schedule(name=spec, shares=tuple(w / total for w in weights))


def _measured(levels: Sequence[Level], step_costs: Sequence[float] | None) -> list[float]:
    if step_costs is None:
        raise ScheduleError(
            "schedule 'measured' needs costs of this machine; "
            "run `plr-edge profile BUNDLE --json costs.json`, then `--costs costs.json`"
        )
    if len(step_costs) != len(levels) or not all(c > 0 and math.isfinite(c) for c in step_costs):
        raise ScheduleError(
            f"measured costs are {list(step_costs)}; need {len(levels)} numbers above 0, "
            "one a level; run `plr-edge profile` on this bundle again"
        )
    return [1.0 / cost for cost in step_costs]


def _parse_shares(spec: str, levels: Sequence[Level]) -> list[float]:
    try:
        weights = [float(part) for part in spec.split(",")]
    except ValueError:
        names = [*SCHEDULES, "measured"]
        near = difflib.get_close_matches(spec, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ScheduleError(
            f"no schedule {spec[:60]!r}; {hint}there are {', '.join(names)}, "
            f"or {len(levels)} shares separated by commas"
        ) from None
    if len(weights) != len(levels):
        names_of = ", ".join(level.name for level in levels)
        raise ScheduleError(
            f"{len(weights)} shares for {len(levels)} levels; give one each for {names_of}"
        )
    if any(not math.isfinite(w) or w < 0 for w in weights) or sum(weights) <= 0:
        raise ScheduleError(f"shares {spec!r} must be at least 0 and not all 0")
    return weights
