"""Costs of bundles that were not measured, scaled from a profile of some that were.

What was measured is taken as it is; the rest follows from exact multiply-adds and bytes, part by
part, and is called an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.planning.candidates import Candidate, Costs
from plr_edge.replay.feature_cache import FeatureCache
from plr_edge.replay.latent_memory import SEQ_BYTES

_COPIES = 3  # of a trained weight: itself, its gradient, its momentum


class CostModel:
    """Costs of candidates, from a profile of one or more bundles."""

    def __init__(self, facts: Mapping[str, Any], references: Mapping[str, Candidate],
                 config: LearningConfig) -> None:  # fmt: skip
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
        measured = nearest.candidate.key == candidate.key
        frame_ms = nearest.ms["frame"] if measured else nearest.frame_ms(candidate)
        watts = None if nearest.frame_mj is None else nearest.frame_mj / nearest.ms["frame"]
        steps_of = [nearest] if measured else self._known
        return Costs(
            frame_ms=frame_ms,
            frame_p99_ms=frame_ms * nearest.p99,
            frame_mj=None if watts is None else watts * frame_ms,
            step_ms=tuple(self._steps(candidate, [k.step_ms for k in steps_of], steps_of)),
            step_mj=None if not self.has_joules
            else tuple(self._steps(candidate, [k.step_mj or [] for k in steps_of], steps_of)),
            trainer_bytes=nearest.trainer_bytes_of(
                candidate, self.config, memory_bytes or self.config.memory_bytes
            ),
            answer_bytes=nearest.answer_bytes,
            measured=measured,
        )  # fmt: skip

    def _steps(
        self, candidate: Candidate, values: Sequence[Sequence[float]], known: Sequence[_Known]
    ) -> list[float]:
        """Interpolate what steps took, over their multiply-adds.

        Beyond the largest that was measured it goes on at its rate; or, where nothing but the
        classifier was trained, at that of the frozen part.
        """
        points: dict[float, list[float]] = {}
        for one, own in zip(known, values, strict=True):
            for macs, value in zip(one.step_macs, own, strict=True):
                points.setdefault(macs, []).append(value)
        x = np.array(sorted(points))
        y = np.array([np.mean(points[macs]) for macs in sorted(points)])
        rate = y[-1] / x[-1]
        if len(x) == 1:
            rate = y[0] / known[0].step_ms[-1] * known[0].ms["frozen"] / known[0].frozen_macs
        batch = self.config.new_per_step + self.config.rehearsed_per_step
        wanted = np.array(candidate.step_macs(batch), float)
        return [float(v) for v in np.interp(wanted, x, y) + np.maximum(wanted - x[-1], 0) * rate]


class _Known:
    """What a profile says of one bundle."""

    def __init__(self, candidate: Candidate, entry: Mapping[str, Any]) -> None:
        rows = {row["part"]: row for row in entry["engines"] if row["batch"] == 1}
        self.candidate, self.frozen_macs = candidate, max(candidate.frozen_macs, 1)
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
        return (float(by_size), abs(other.frozen_macs / self.frozen_macs - 1))

    def frame_ms(self, candidate: Candidate) -> float:
        """Scale preparing by pixels and each part by multiply-adds; what is left over stays."""
        own, ms = self.candidate, self.ms
        parts_ms = ms["prepare"] + ms["frozen"] + ms["adaptive"]
        frozen_rate = ms["frozen"] / self.frozen_macs
        adaptive_rate = ms["adaptive"] / own.adaptive_macs if own.adaptive_macs else frozen_rate
        return (
            ms["prepare"] * (candidate.input_size / own.input_size) ** 2
            + frozen_rate * candidate.frozen_macs
            + adaptive_rate * candidate.adaptive_macs
            + max(0.0, ms["frame"] - parts_ms)
        )

    def trainer_bytes_of(
        self, candidate: Candidate, config: LearningConfig, memory_bytes: int
    ) -> int | None:
        """Add what a candidate needs more for training than the one that was measured."""
        if self.trainer_bytes is None:
            return None
        own = training_bytes(self.candidate, config)
        other = training_bytes(candidate, replace(config, memory_bytes=memory_bytes))
        return int(self.trainer_bytes - own + other)


def training_bytes(candidate: Candidate, config: LearningConfig) -> int:
    """Return the bytes of training that differ between candidates.

    Cached features and weights stay; what autograd keeps during a step and the copies of a
    candidate that is offered come and go, and are never there together.
    """
    levels = candidate.levels
    record_bytes = candidate.codec(config.bits, config.pool).record_bytes + SEQ_BYTES
    n_slots = config.memory_bytes // record_bytes
    cache = FeatureCache(levels, n_slots, config.cache_bytes)
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
