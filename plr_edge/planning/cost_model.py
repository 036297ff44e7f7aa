"""Costs of configurations that were not measured, scaled from a profile of some that were.

A measured configuration keeps its measured costs. The others follow from exact multiply-adds and
bytes, part by part, and count as estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.planning.configurations import Configuration, Costs
from plr_edge.replay.feature_cache import FeatureCache
from plr_edge.replay.latent_memory import SEQ_BYTES

_COPIES = 3  # of a trained weight: itself, its gradient, its momentum


class CostModel:
    """Costs of configurations, from a profile of one or more bundles."""

    def __init__(self, profile: Mapping[str, Any], references: Mapping[str, Configuration],
                 config: LearningConfig) -> None:  # fmt: skip
        """Read a profile.

        Args:
            profile: profile returned by `profile_bundles`, schema 2.
            references: configurations of the profiled bundles, by the digest of their frozen part.
            config: settings of learning.

        Raises:
            ConfigError: the profile lacks a field that costs are computed from.
        """
        self.config = config
        try:
            self.idle_w = _sum(idle.get("w") for idle in profile["idle"].values())
            self._known = [_Profiled(references[e["frozen_sha256"]], e) for e in profile["bundles"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the profile lacks {error}; write it again with `plr-edge profile --json`"
            ) from None

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that were profiled."""
        return tuple(dict.fromkeys(known.configuration.precision for known in self._known))

    @property
    def has_joules(self) -> bool:
        """Whether idle power and the energy of every call were measured."""
        return self.idle_w is not None and all(
            known.frame_mj is not None and known.step_mj is not None for known in self._known
        )

    def costs(self, configuration: Configuration, latent_memory_bytes: int | None = None) -> Costs:
        """Return measured costs, or costs scaled from the nearest profiled bundle.

        Args:
            configuration: a configuration whose precision was profiled.
            latent_memory_bytes: size of the latent memory. None is the size of the profile.
        """
        memory_bytes = self.config.memory_bytes
        if latent_memory_bytes is not None:
            memory_bytes = latent_memory_bytes
        same = [k for k in self._known if k.configuration.precision == configuration.precision]
        nearest = min(same, key=lambda known: known.distance(configuration))
        measured = nearest.configuration.key == configuration.key
        frame_ms = nearest.ms["frame"] if measured else nearest.frame_ms(configuration)
        watts = None if nearest.frame_mj is None else nearest.frame_mj / nearest.ms["frame"]
        used = [nearest] if measured else self._known
        return Costs(
            frame_ms=frame_ms,
            frame_p99_ms=frame_ms * nearest.p99,
            frame_mj=None if watts is None else watts * frame_ms,
            step_ms=tuple(self._steps(configuration, [k.step_ms for k in used], used)),
            step_mj=None if not self.has_joules
            else tuple(self._steps(configuration, [k.step_mj or [] for k in used], used)),
            trainer_bytes=nearest.trainer_bytes_of(configuration, self.config, memory_bytes),
            answer_bytes=nearest.answer_bytes,
            measured=measured,
        )  # fmt: skip

    def _steps(
        self,
        configuration: Configuration,
        values: Sequence[Sequence[float]],
        known: Sequence[_Profiled],
    ) -> list[float]:
        """Interpolate the cost of a step at each level over its multiply-adds.

        Beyond the largest measured step, costs grow at the rate of that step. If only the
        classifier was trained, they grow at the rate of the frozen part.
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
        wanted = np.array(configuration.step_macs(batch), float)
        return [float(v) for v in np.interp(wanted, x, y) + np.maximum(wanted - x[-1], 0) * rate]


class _Profiled:
    """Measurements of one profiled bundle."""

    def __init__(self, configuration: Configuration, entry: Mapping[str, Any]) -> None:
        rows = {row["part"]: row for row in entry["engines"] if row["batch"] == 1}
        self.configuration = configuration
        self.frozen_macs = max(configuration.frozen_macs, 1)
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

    def distance(self, other: Configuration) -> tuple[float, float]:
        """Return the distance to a configuration: by input size, then by multiply-adds."""
        own = self.configuration
        if own.key == other.key:
            return (-1.0, 0.0)
        by_size = abs(np.log(other.input_size / own.input_size))
        return (float(by_size), abs(other.frozen_macs / self.frozen_macs - 1))

    def frame_ms(self, configuration: Configuration) -> float:
        """Scale preprocessing by pixels and each part by multiply-adds. The rest is constant."""
        own, ms = self.configuration, self.ms
        parts_ms = ms["prepare"] + ms["frozen"] + ms["adaptive"]
        frozen_rate = ms["frozen"] / self.frozen_macs
        adaptive_rate = ms["adaptive"] / own.adaptive_macs if own.adaptive_macs else frozen_rate
        return (
            ms["prepare"] * (configuration.input_size / own.input_size) ** 2
            + frozen_rate * configuration.frozen_macs
            + adaptive_rate * configuration.adaptive_macs
            + max(0.0, ms["frame"] - parts_ms)
        )

    def trainer_bytes_of(
        self, configuration: Configuration, config: LearningConfig, latent_memory_bytes: int
    ) -> int | None:
        """Add to the measured bytes what a configuration needs more for training."""
        if self.trainer_bytes is None:
            return None
        own = training_bytes(self.configuration, config)
        other = training_bytes(configuration, replace(config, memory_bytes=latent_memory_bytes))
        return int(self.trainer_bytes - own + other)


def training_bytes(configuration: Configuration, config: LearningConfig) -> int:
    """Return the bytes of training that differ between configurations.

    Cached features and weights are always held. The tensors that autograd keeps during a step and
    the copies of offered weights are temporary, and never exist at the same time.
    """
    levels = configuration.levels
    record_bytes = configuration.codec(config.bits, config.pool).record_bytes + SEQ_BYTES
    n_slots = config.memory_bytes // record_bytes
    cache = FeatureCache(levels, n_slots, config.cache_bytes)
    cached = sum(2 * n_slots * x.width for i, x in enumerate(levels) if cache.holds(i))
    weights = 4 * sum(level.weights for level in levels[:-1])
    step = (config.new_per_step + config.rehearsed_per_step) * configuration.saved_bytes
    offered = 2 * (n_slots * (record_bytes + 4 * levels[-1].width) + weights)
    return _COPIES * weights + n_slots * record_bytes + cached + max(step, offered)


def _net_mj(row: Mapping[str, Any]) -> float | None:
    """Add up the meters, as the governor does. None if no meter has a total."""
    return _sum(row.get("net_mj", {}).values())


def _sum(values: Any) -> float | None:
    known = [float(value) for value in values if value is not None]
    return sum(known) if known else None
