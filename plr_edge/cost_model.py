"""Costs of bundles that were not measured, scaled from a profile of some that were.

What was measured is taken as it is; the rest follows from exact multiply-adds and bytes, part by
part, and is called an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.config import AdaptConfig
from plr_edge.derived_cache import DerivedCache
from plr_edge.errors import ConfigError
from plr_edge.planning import SEQ_BYTES, Candidate, Costs

_COPIES = 3  # of a trained weight: itself, its gradient, its momentum


class CostModel:
    """Costs of candidates, from a profile of one or more bundles."""

    def __init__(self, facts: Mapping[str, Any], references: Mapping[str, Candidate],
                 config: AdaptConfig) -> None:  # fmt: skip
        """Read a profile.

        Args:
            facts: what `profile_bundles` returned, schema 2.
            references: the bundles that it profiled, as candidates, by the digest of their frozen
                part.
            config: of learning.

        Raises:
            ConfigError: it lacks what costs are made of.
        """
        self.config = config
        try:
            self.idle_w = _sum(idle.get("w") for idle in facts["idle"].values())
            self._known = [_Known(references[e["frozen_sha256"]], e) for e in facts["bundles"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the profile lacks {error}; write it anew with `plr-edge profile --json`"
            ) from None

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that were profiled."""
        return tuple(dict.fromkeys(known.candidate.precision for known in self._known))

    @property
    def has_joules(self) -> bool:
        """Whether the profile can say what a watt buys."""
        return self.idle_w is not None and all(
            known.frame_mj is not None and known.step_mj is not None for known in self._known
        )

    def costs(self, candidate: Candidate, memory_bytes: int | None = None) -> Costs:
        """Return what was measured of a candidate, or scale it from the nearest bundle.

        Args:
            candidate: of a precision that was profiled.
            memory_bytes: of the latent memory; the one it was profiled with by default.
        """
        same = [k for k in self._known if k.candidate.precision == candidate.precision]
        nearest = min(same, key=lambda known: known.distance(candidate))
        return nearest.costs(candidate, self.config, memory_bytes or self.config.memory_bytes)


class _Known:
    """What a profile says of one bundle."""

    def __init__(self, candidate: Candidate, entry: Mapping[str, Any]) -> None:
        rows = {row["part"]: row for row in entry["engines"] if row["batch"] == 1}
        self.candidate = candidate
        self.ms = {part: float(rows[part]["p50_ms"]) for part in rows}
        self.p99 = float(rows["frame"]["p99_ms"]) / self.ms["frame"]
        self.frame_mj = _net_mj(rows["frame"])
        self.step_ms = [float(step["p50_ms"]) for step in entry["steps"]]
        mj = [_net_mj(step) for step in entry["steps"]]
        self.step_mj = None if None in mj else [float(x) for x in mj if x is not None]
        self.step_macs = [float(step["macs"]) for step in entry["steps"]]
        memory = entry["memory"]
        self.trainer_bytes = memory["trains"].get("data_bytes")
        self.answer_bytes = memory["answers"].get("peak_rss_bytes")

    def distance(self, other: Candidate) -> tuple[float, float]:
        """Say how far another candidate is: by input size first, then by multiply-adds."""
        own = self.candidate
        if own.key == other.key:
            return (-1.0, 0.0)
        by_size = abs(np.log(other.input_size / own.input_size))
        return (float(by_size), abs(other.frozen_macs / max(own.frozen_macs, 1) - 1))

    def costs(self, candidate: Candidate, config: AdaptConfig, memory_bytes: int) -> Costs:
        """Scale to a candidate; the identity for the one that was measured."""
        measured = candidate.key == self.candidate.key
        frame_ms = self.ms["frame"] if measured else self._frame_ms(candidate)
        macs = candidate.step_macs(config.new_per_step + config.rehearsed_per_step)
        watts = None if self.frame_mj is None else self.frame_mj / self.ms["frame"]
        return Costs(
            frame_ms=frame_ms,
            frame_p99_ms=frame_ms * self.p99,
            frame_mj=None if watts is None else watts * frame_ms,
            step_ms=tuple(self.step_ms if measured else self._scaled(self.step_ms, macs)),
            step_mj=None if self.step_mj is None else tuple(
                self.step_mj if measured else self._scaled(self.step_mj, macs)),
            trainer_bytes=self._trainer_bytes(candidate, config, memory_bytes),
            answer_bytes=self.answer_bytes,
            measured=measured,
        )  # fmt: skip

    def _frame_ms(self, candidate: Candidate) -> float:
        """Scale preparing by pixels and each part by multiply-adds; what is left over stays."""
        own, ms = self.candidate, self.ms
        parts_ms = ms["prepare"] + ms["frozen"] + ms["adaptive"]
        frozen_rate = ms["frozen"] / max(own.frozen_macs, 1)
        adaptive_rate = ms["adaptive"] / own.adaptive_macs if own.adaptive_macs else frozen_rate
        return (
            ms["prepare"] * (candidate.input_size / own.input_size) ** 2
            + frozen_rate * candidate.frozen_macs
            + adaptive_rate * candidate.adaptive_macs
            + max(0.0, ms["frame"] - parts_ms)
        )

    def _scaled(self, values: Sequence[float], macs: Sequence[float]) -> list[float]:
        """Interpolate over multiply-adds of a step; beyond the largest, go on at its rate."""
        order = np.argsort(self.step_macs)
        x, y = np.array(self.step_macs)[order], np.array(values)[order]
        inside = np.interp(macs, x, y)
        return [
            float(y[-1] * m / x[-1]) if m > x[-1] else float(value)
            for m, value in zip(macs, inside, strict=True)
        ]

    def _trainer_bytes(
        self, candidate: Candidate, config: AdaptConfig, memory_bytes: int
    ) -> int | None:
        if self.trainer_bytes is None:
            return None
        own = training_bytes(self.candidate, config)
        other = training_bytes(candidate, replace(config, memory_bytes=memory_bytes))
        return int(self.trainer_bytes - own + other)


def training_bytes(candidate: Candidate, config: AdaptConfig) -> int:
    """Return the bytes of training that differ between candidates.

    Cached features and weights stay; what autograd keeps during a step and the copies of a
    candidate that is offered come and go, and are never there together.
    """
    levels = candidate.levels
    record_bytes = candidate.codec(config.bits, config.pool).record_bytes + SEQ_BYTES
    n_slots = config.memory_bytes // record_bytes
    cache = DerivedCache(levels, n_slots, config.cache_bytes)
    cached = sum(2 * n_slots * x.width for i, x in enumerate(levels) if cache.holds(i))
    weights = 4 * sum(level.weights for level in levels[:-1])
    step = (config.new_per_step + config.rehearsed_per_step) * candidate.saved_bytes
    offered = 2 * (n_slots * (record_bytes + 4 * levels[-1].width) + weights)
    return _COPIES * weights + n_slots * record_bytes + cached + max(step, offered)


def _net_mj(row: Mapping[str, Any]) -> float | None:
    """Add up the meters, as the governor does; None where none has a total."""
    return _sum(row.get("net_mj", {}).values())


def _sum(values: Any) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) if known else None
