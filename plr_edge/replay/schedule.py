"""Schedules: which share of the rehearsed samples enters the network at which level.

A level is described by name, size and cost; networks and data play no part. Standard library only.

Source: Pawlak et al., "Progressive Latent Replay for efficient Generative Rehearsal", arXiv
2207.01562. The named schedules are those of the authors' code, except for `progressive` and
`measured`, which are ours.
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
    """The input of one trainable block, or of the classifier for the last level.

    Attributes:
        name: name of the block that starts here.
        shape: shape of one sample; its axes may be any but the batch.
        weights: number of parameters of the block, including biases.
        macs: multiply-adds of the block's forward pass for one sample.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    macs: int

    @property
    def width(self) -> int:
        """Number of values in one sample's feature at this level."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The share of rehearsal that enters at each level; shares add up to one.

    Attributes:
        name: name of the schedule, or the shares as text.
        shares: f_1 .. f_L, from level 1 to the classifier.

    Raises:
        ScheduleError: a share is negative or not finite, or they do not add up to one.
    """

    name: str
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.shares or any(not math.isfinite(s) or s < 0 for s in self.shares):
            raise ScheduleError(f"shares are {self.shares}; each must be a finite number >= 0")
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-9):
            raise ScheduleError(f"shares add up to {sum(self.shares):g}; they must add up to 1")

    @property
    def reach(self) -> tuple[float, ...]:
        """u_1 .. u_L: the share of rehearsal that passes through each block (PLR, section 3)."""
        return tuple(accumulate(self.shares))

    def relative_cost(self, costs: Sequence[float]) -> float:
        """Return the cost relative to Internal Replay: sum_l c_l u_l / sum_l c_l.

        Args:
            costs: c_1 .. c_L, cost of each block in any unit. The authors use the number of
                weights.

        Example:
            >>> levels = fully_connected([1024, 2000, 2000, 100])
            >>> cost = make_schedule("basic", levels).relative_cost([x.weights for x in levels])
            >>> round(cost, 3)
            0.568
        """
        return sum(c * u for c, u in zip(costs, self.reach, strict=True)) / sum(costs)


def fully_connected(widths: Sequence[int]) -> tuple[Level, ...]:
    """Return the levels of a fully connected network.

    Args:
        widths: width of the latent, width of each hidden layer, number of classes.
    """
    return tuple(
        Level(name=f"fc{i}", shape=(wide,), weights=(wide + 1) * narrow, macs=wide * narrow)
        for i, (wide, narrow) in enumerate(pairwise(widths), 1)
    )


def macs_from(levels: Sequence[Level]) -> list[int]:
    """Return the multiply-adds of one sample's forward pass from each level up."""
    return [sum(level.macs for level in levels[i:]) for i in range(len(levels))]


def apportion(shares: Sequence[float], n: int) -> list[int]:
    """Split `n` samples over the levels into whole numbers that add up to `n`.

    Uses the largest remainder method: each count is within one of its exact share.

    Args:
        shares: share of each level, at least 0, in any unit.
        n: number of samples.

    Example:
        >>> apportion([0.1, 0.1, 0.8], 12)
        [1, 1, 10]
    """
    exact = [n * share / sum(shares) for share in shares]
    counts = [int(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: n - sum(counts)]:
        counts[i] += 1
    return counts


def internal(levels: Sequence[Level]) -> list[float]:
    """Let everything enter at level 1, as in Internal Replay."""
    return [1.0] + [0.0] * (len(levels) - 1)


def basic(levels: Sequence[Level]) -> list[float]:
    """Give each level the same share."""
    return [1.0] * len(levels)


def cumulative_weights(levels: Sequence[Level]) -> list[float]:
    """Weight a level by the inverse of the parameters from its block upwards."""
    return [1.0 / max(1, sum(x.weights for x in levels[i:])) for i in range(len(levels))]


def total_weights(levels: Sequence[Level]) -> list[float]:
    """Weight a level by the inverse of the parameters of its block."""
    return [1.0 / max(1, level.weights) for level in levels]


def input_size(levels: Sequence[Level]) -> list[float]:
    """Weight a level by the width of its feature."""
    return [float(level.width) for level in levels]


def layer_idx(levels: Sequence[Level]) -> list[float]:
    """Weight a level by its number, counted from 1."""
    return [float(i) for i in range(1, len(levels) + 1)]


def classifier(levels: Sequence[Level]) -> list[float]:
    """Train the classifier alone, so that no feature ever goes stale. For small budgets."""
    return [0.0] * (len(levels) - 1) + [1.0]


def progressive(levels: Sequence[Level]) -> list[float]:
    """Give the classifier four fifths, and each block an equal part of the rest."""
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
    "classifier": classifier,
    "progressive": progressive,
}


def make_schedule(
    spec: str, levels: Sequence[Level], step_costs: Sequence[float] | None = None
) -> Schedule:
    """Build a schedule from its name or from a list of shares.

    Args:
        spec: a name in `SCHEDULES`, `measured`, or comma-separated shares, level 1 first. Shares
            are normalised.
        levels: levels of the adaptive part, level 1 first, the classifier last.
        step_costs: cost of one training step at each level, in any unit; only for `measured`.

    Raises:
        ScheduleError: the name is unknown, or shares or costs do not fit the levels.

    Example:
        >>> make_schedule("1,1,2", fully_connected([8, 6, 5, 4])).shares
        (0.25, 0.25, 0.5)
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
            "the schedule 'measured' needs step costs measured on this machine; "
            "run `plr-edge profile BUNDLE --json costs.json`, then add `--costs costs.json`"
        )
    if len(step_costs) != len(levels) or not all(c > 0 and math.isfinite(c) for c in step_costs):
        raise ScheduleError(
            f"the measured costs are {list(step_costs)}; {len(levels)} numbers above 0 are needed, "
            "one per level; run `plr-edge profile` on this bundle again"
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
            f"unknown schedule {spec[:60]!r}; {hint}choose one of {', '.join(names)}, "
            f"or give {len(levels)} comma-separated shares"
        ) from None
    if len(weights) != len(levels):
        names_of = ", ".join(level.name for level in levels)
        raise ScheduleError(
            f"{len(weights)} shares for {len(levels)} levels; give one for each of {names_of}"
        )
    if any(not math.isfinite(w) or w < 0 for w in weights) or sum(weights) <= 0:
        raise ScheduleError(f"shares are {spec!r}; they must be at least 0, and not all 0")
    return weights
