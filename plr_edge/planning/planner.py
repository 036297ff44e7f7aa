"""Recommends a configuration for a machine: what it gets, what was rejected, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import ConfigError, PlrEdgeError
from plr_edge.planning.configurations import (
    Assessment,
    Configuration,
    Constraints,
    assess,
)
from plr_edge.planning.cost_model import CostModel
from plr_edge.planning.search_space import SearchSpace
from plr_edge.planning.trials import Trial
from plr_edge.profiling.profile import profile_bundles
from plr_edge.replay.latent_axes import largest_pool
from plr_edge.replay.latent_memory import SEQ_BYTES
from plr_edge.replay.linear_codec import LinearCodec

SAME_ACCURACY = 0.01  # accuracies closer than this count as equal: seeds differ by as much
SCHEDULES = ("progressive", "measured", "cumulative_weights", "basic", "internal")
LATENT_SHARES = (1.0, 0.5, 0.25)  # of the default size of the latent memory
FIDELITY = ("fp32", "fp16", "int8")
_ROUNDS = 3
Say = Callable[[str], object]


@dataclass
class Recommendation:
    """Result of planning.

    Attributes:
        assessments: all configurations, the recommended one first, those that violate a constraint
            last.
        criterion: how they are ranked, as a sentence to display.
        profile: the profile that the costs come from.
        codecs: ways to store the latents of the recommended configuration, best first.
        schedules: rehearsal schedules of the recommended configuration.
        failed: error messages of configurations that could not be exported, by their names.
    """

    assessments: list[Assessment]
    criterion: str
    profile: dict[str, Any]
    codecs: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Assessment | None:
        """The recommended configuration. None if every one violates a constraint."""
        first = self.assessments[0] if self.assessments else None
        return None if first is None or first.violation else first


class Planner:
    """Compares the configurations of one backbone under constraints."""

    def __init__(
        self,
        space: SearchSpace,
        constraints: Constraints,
        config: LearningConfig,
        folder: Path,
        *,
        engines: EngineConfig | None = None,
        trial: Trial | None = None,
        finalists: int = 3,
        say: Say = lambda text: None,
    ) -> None:
        """Prepare.

        Args:
            space: configurations to choose from.
            constraints: what a configuration must keep to.
            config: settings of learning.
            folder: directory for the bundles that are exported to be measured.
            engines: settings of the engines.
            trial: stream to measure the accuracy of the finalists on. None to rank without it.
            finalists: number of best configurations to export and measure.
            say: called with a line about each thing that is measured.
        """
        self.space, self.constraints, self.config = space, constraints, config
        self.engines = engines or EngineConfig()
        self.folder, self.trial, self.finalists, self.say = folder, trial, finalists, say
        self._measured: dict[tuple[int, str, str], float] = {}  # accuracy on the trial
        self._bundles: dict[tuple[int, str, str], Bundle] = {}
        self._failed: dict[str, str] = {}
        self._idle_w: float | None = None
        self._order = space.cut_names

    # costs

    def measure(self, precisions: Sequence[str], runs: int = 50) -> dict[str, Any]:
        """Profile the bundle here, in its own and in other precisions."""
        own = self.space.own
        wanted = [own, *(replace(own, precision=p) for p in precisions if p != own.precision)]
        bundles = [b for b in map(self._bundle, wanted) if b is not None]
        return self._profile(bundles, runs)

    def _profile(self, bundles: Sequence[Bundle], runs: int) -> dict[str, Any]:
        return profile_bundles(bundles, self.config, engines=self.engines, runs=runs, say=self.say)

    def recommend(
        self, profile: dict[str, Any], *, measured_here: bool, runs: int = 50
    ) -> Recommendation:
        """Choose a configuration by a profile.

        Args:
            profile: costs of one or more bundles of this backbone.
            measured_here: whether the profile is of this machine, so that finalists can be added.
            runs: timed calls per engine of a finalist.

        Raises:
            ConfigError: the profile is of other bundles, or lacks energy that a power budget needs.
        """
        ranked = self._assess_all(profile)
        for _ in range(_ROUNDS if measured_here else 0):
            finalists = [one for one in ranked if not one.violation][: self.finalists]
            if not finalists or finalists[0].costs.measured:
                break
            made = [self._bundle(x.configuration) for x in finalists if not x.costs.measured]
            bundles = [bundle for bundle in made if bundle is not None]
            if bundles:
                more = self._profile(bundles, runs)
                profile = {**profile, "bundles": [*profile["bundles"], *more["bundles"]]}
            ranked = self._assess_all(profile)
        if self.trial is not None:
            self._try([one for one in ranked if not one.violation][: self.finalists])
            ranked = self._assess_all(profile)
        result = Recommendation(ranked, self._criterion(), profile, failed=self._failed)
        if result.best is not None:
            result.codecs = self._codecs(result.best)
            result.schedules = self._schedules(result.best)
        return result

    def _assess_all(self, profile: Mapping[str, Any]) -> list[Assessment]:
        model = self._model(profile)
        self._idle_w = model.idle_w
        found = []
        for configuration in self.space.configurations(model.precisions):
            one = self._assess(configuration, model)
            if configuration.name in self._failed:
                one = replace(one, violation="export: refused")
            found.append(replace(one, accuracy=self._measured.get(configuration.key)))
        return self._ranked(found)

    def _assess(self, configuration: Configuration, model: CostModel) -> Assessment:
        """Assess with the defaults, then with cheaper steps, then with fewer latents."""
        for share in LATENT_SHARES:
            config = replace(self.config, memory_bytes=int(self.config.memory_bytes * share))
            costs = model.costs(configuration, config.memory_bytes)
            for schedule in ("progressive", "measured"):
                one = assess(configuration, costs, self.constraints, model.idle_w, config, schedule)
                if not one.violation:
                    return one
        costs = model.costs(configuration)
        return assess(configuration, costs, self.constraints, model.idle_w, self.config)

    def _bundle(self, configuration: Configuration) -> Bundle | None:
        """Export a configuration once. Returns None, and keeps the reason, if that fails."""
        if configuration.name in self._failed:
            return None
        if configuration.key not in self._bundles:
            self.say(f"export of {configuration.name}")
            try:
                self._bundles[configuration.key] = self.space.export(configuration, self.folder)
            except PlrEdgeError as error:
                self._failed[configuration.name] = str(error)
                return None
        return self._bundles[configuration.key]

    def _model(self, profile: Mapping[str, Any]) -> CostModel:
        entries, references = self.space.profiled(profile)
        model = CostModel({**profile, "bundles": entries}, references, self.config)
        power_w = self.constraints.budget.power_w
        if power_w is not None and not model.has_joules:
            raise ConfigError(
                f"a power budget of {power_w:g} W needs joules, and the profile has none: "
                f"{'; '.join(profile.get('energy_absent', [])) or 'no meter has a total'}"
            )
        return model

    # accuracy

    def _try(self, finalists: Sequence[Assessment]) -> None:
        for one in finalists:
            if one.configuration.key not in self._measured:
                accuracy = self._trial_accuracy(one, self.config.bits, self.config.pool)
                if accuracy is not None:
                    self._measured[one.configuration.key] = accuracy

    def _trial_accuracy(self, one: Assessment, bits: int, pool: int | None) -> float | None:
        """Return the accuracy on the trial. None if there is no trial or the export fails."""
        bundle = self._bundle(one.configuration) if self.trial is not None else None
        if self.trial is None or bundle is None:
            return None
        name = f"{one.configuration.name}, {bits} bits" + f", pool {pool}" * bool(pool)
        self.say(f"accuracy of {name}")
        shares = ",".join(map(str, one.schedule.shares))
        config = replace(self.config, bits=bits, pool=pool, memory_bytes=one.latent_memory_bytes,
                         schedule=shares)  # fmt: skip
        return self.trial.accuracy(bundle, config, self.engines)

    def _ranked(self, assessments: Sequence[Assessment]) -> list[Assessment]:
        """Sort: the cheapest frame among the most accurate, within `SAME_ACCURACY`, comes first."""
        kept = [one for one in assessments if not one.violation]
        top = max((one.accuracy for one in kept if one.accuracy is not None), default=None)

        def key(one: Assessment) -> tuple[Any, ...]:
            if one.accuracy is None or top is None:
                return (bool(one.violation), 1, *self._preference(one.configuration))
            good = one.accuracy >= top - SAME_ACCURACY
            cost = (one.costs.frame_ms,) if good else (-one.accuracy, one.costs.frame_ms)
            return (bool(one.violation), 0, not good, *cost)

        return sorted(assessments, key=key)

    def _preference(self, configuration: Configuration) -> tuple[Any, ...]:
        """Return a sort key for configurations whose accuracy nobody measured.

        Larger inputs come first, then cuts near the default one, then higher precision.
        """
        default = self._order.index(self.space.default_cut)
        distance = abs(self._order.index(configuration.cut) - default)
        return (-configuration.input_size, distance, FIDELITY.index(configuration.precision))

    def _criterion(self) -> str:
        if self.trial is not None:
            return (
                "accuracy on held-out frames of your stream; configurations that were not tried "
                "follow by input size, then by distance from the default cut"
            )
        return (
            "input size, then distance from the default cut, then precision; the accuracy of this "
            "backbone was not measured, use --stream to measure it"
        )

    # how to run the recommended configuration

    def _codecs(self, best: Assessment) -> list[dict[str, Any]]:
        """List ways to store its latents, with their accuracy if there is a trial."""
        side = largest_pool(best.configuration.levels[0].shape, best.configuration.latent_axes)
        pools = [None, math.ceil(side / 2)] if side is not None and side > 1 else [None]
        rows = []
        for bits in LinearCodec.ALLOWED_BITS:
            for pool in pools:
                record_bytes = best.configuration.codec(bits, pool).record_bytes + SEQ_BYTES
                is_default = (bits, pool) == (self.config.bits, self.config.pool)
                rows.append({
                    "bits": bits, "pool": pool, "bytes": record_bytes,
                    "latents_per_mb": 1e6 / record_bytes,
                    "held": best.latent_memory_bytes // record_bytes,
                    "accuracy": best.accuracy if is_default and self.trial is not None
                    else self._trial_accuracy(best, bits, pool),
                })  # fmt: skip
        top = max((row["accuracy"] for row in rows if row["accuracy"] is not None), default=0.0)
        return sorted(rows, key=lambda row: (
            (row["accuracy"] < top - SAME_ACCURACY, row["bytes"]) if row["accuracy"] is not None
            else (row["pool"] is not None, row["bits"])
        ))  # fmt: skip

    def _schedules(self, best: Assessment) -> list[dict[str, Any]]:
        """List the rehearsal schedules, with the training steps that each leaves."""
        rows = []
        for name in SCHEDULES:
            one = assess(best.configuration, best.costs, self.constraints, self._idle_w,
                         self.config, name)  # fmt: skip
            rows.append({"schedule": name, "shares": list(one.schedule.shares),
                         "step_ms": one.step_ms, "step_mj": one.step_mj,
                         "steps_per_s": one.steps_per_s})  # fmt: skip
        return rows
