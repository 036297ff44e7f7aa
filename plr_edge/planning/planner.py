"""A plan: which candidate to run on a machine, what it gets, and what was rejected and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import ConfigError, PlrEdgeError
from plr_edge.planning.candidates import Candidate, Judged, Limits, judge
from plr_edge.planning.cost_model import CostModel
from plr_edge.planning.trials import AccuracyTable, Family, Trial, read_accuracies
from plr_edge.profiling.profile import entries_of, profile_bundles
from plr_edge.replay.latent_memory import SEQ_BYTES

AS_GOOD = 0.01  # accuracies nearer than this are the same: seeds differ by as much
SCHEDULES = ("progressive", "measured", "cumulative_weights", "basic", "internal")
LATENT_SHARES = (1.0, 0.5, 0.25)  # of the latent memory's default budget
FIDELITY = ("fp32", "fp16", "int8")
_ROUNDS = 3
Say = Callable[[str], object]


@dataclass
class Plan:
    """What came of planning.

    Attributes:
        judged: candidates, the recommended one first, those that break a budget last.
        criterion: by what they are ranked, for people.
        facts: the profile that costs were taken from.
        codecs: ways to store the recommended candidate's latents.
        schedules: of the recommended candidate.
        failed: what could not be exported, and why.
    """

    judged: list[Judged]
    criterion: str
    facts: dict[str, Any]
    codecs: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Judged | None:
        """The recommended candidate; None where every one breaks a budget."""
        return self.judged[0] if self.judged and not self.judged[0].broken else None


class Planner:
    """Weighs the candidates of one bundle against limits."""

    def __init__(
        self,
        family: Family,
        limits: Limits,
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
            family: what there is to choose from.
            limits: budgets.
            config: of learning.
            folder: where to export candidates that are to be measured.
            engines: what the networks run on.
            trial: to see how accurate finalists are; None to go by what others measured.
            finalists: how many of the best candidates to export and measure.
            say: told what is going on.
        """
        self.family, self.limits, self.config = family, limits, config
        self.engines = engines or EngineConfig()
        self.folder, self.trial, self.finalists, self.say = folder, trial, finalists, say
        self._table: AccuracyTable | None = read_accuracies(family)
        self._measured: dict[tuple[int, str, str], float] = {}  # accuracy on the trial
        self._bundles: dict[tuple[int, str, str], Bundle] = {}
        self._failed: dict[str, str] = {}
        self._idle_w: float | None = None
        self._order = family.cut_names

    # costs

    def measure(self, precisions: Sequence[str], runs: int = 50) -> dict[str, Any]:
        """Profile the bundle here, and what it is in other precisions."""
        own = self.family.own
        wanted = [own, *(replace(own, precision=p) for p in precisions if p != own.precision)]
        bundles = [b for b in map(self._bundle, wanted) if b is not None]
        return profile_bundles(bundles, self.config, engines=self.engines, runs=runs, say=self.say)

    def plan(self, facts: dict[str, Any], *, measured_here: bool, runs: int = 50) -> Plan:
        """Make a plan from a profile.

        Args:
            facts: a profile.
            measured_here: by this process, so that finalists may be added to it.
            runs: timed calls of each engine of these.

        Raises:
            ConfigError: a power budget, and no joules in the profile; or it is of other bundles.
        """
        judged = self._judge(facts)
        for _ in range(_ROUNDS if measured_here else 0):
            new = [j for j in judged if not j.broken][: self.finalists]
            if not new or new[0].costs.measured:
                break
            bundles = [self._bundle(j.candidate) for j in new if not j.costs.measured]
            made = [bundle for bundle in bundles if bundle is not None]
            if made:
                more = profile_bundles(
                    made, self.config, engines=self.engines, runs=runs, say=self.say
                )
                facts = {**facts, "bundles": [*facts["bundles"], *more["bundles"]]}
            judged = self._judge(facts)
        if self.trial is not None:
            self._try([j for j in judged if not j.broken][: self.finalists])
            judged = self._judge(facts)
        plan = Plan(judged, self._criterion(), facts, failed=self._failed)
        if plan.best is not None:
            plan.codecs = self._codecs(plan.best)
            plan.schedules = self._schedules(plan.best)
        return plan

    def _judge(self, facts: Mapping[str, Any]) -> list[Judged]:
        model = self._model(facts)
        self._idle_w = model.idle_w
        judged = []
        for candidate in self.family.candidates(model.precisions):
            one = self._held_against(candidate, model)
            if candidate.name in self._failed:
                one = replace(one, broken="export: refused")
            judged.append(replace(one, accuracy=self._accuracy(candidate)))
        return self._ranked(judged)

    def _held_against(self, candidate: Candidate, model: CostModel) -> Judged:
        """Judge as by default; then with cheaper steps, then with fewer latents, where it helps."""
        for share in LATENT_SHARES:
            config = replace(self.config, memory_bytes=int(self.config.memory_bytes * share))
            costs = model.costs(candidate, config.memory_bytes)
            for schedule in ("progressive", "measured"):
                one = judge(candidate, costs, self.limits, model.idle_w, config, schedule)
                if not one.broken:
                    return one
        costs = model.costs(candidate)
        return judge(candidate, costs, self.limits, model.idle_w, self.config)

    def _bundle(self, candidate: Candidate) -> Bundle | None:
        """Export a candidate once; None where that fails, which is kept."""
        if candidate.name in self._failed:
            return None
        if candidate.key not in self._bundles:
            self.say(f"export of {candidate.name}")
            try:
                self._bundles[candidate.key] = self.family.export(candidate, self.folder)
            except PlrEdgeError as error:
                self._failed[candidate.name] = str(error)
                return None
        return self._bundles[candidate.key]

    def _model(self, facts: Mapping[str, Any]) -> CostModel:
        family = (self.family.name, self.family.static_feature)
        own = [
            e for e in entries_of(dict(facts))
            if (e.get("backbone"), e.get("static_feature", False)) == family
        ]  # fmt: skip
        if not own:
            raise ConfigError(
                f"the profile holds no bundle of {self.family.name}; write one with "
                f"`plr-edge profile {self.family.bundle.path} --json costs.json`"
            )
        references = {
            e["frozen_sha256"]: self.family.candidate(
                int(e["input_size"]), e["cut"], str(e["precision"]).split()[0]
            )
            for e in own
        }
        model = CostModel({**facts, "bundles": own}, references, self.config)
        power_w = self.limits.budget.power_w
        if power_w is not None and not model.has_joules:
            raise ConfigError(
                f"a power budget of {power_w:g} W needs joules, and the profile has none: "
                f"{'; '.join(facts.get('energy_absent', [])) or 'no meter has a total'}"
            )
        return model

    # accuracy

    def _accuracy(self, candidate: Candidate) -> float | None:
        if self._measured:  # on the user's own stream; until then, finalists by what others saw
            return self._measured.get(candidate.key)
        return None if self._table is None else self._table.mean(candidate)

    def _try(self, finalists: Sequence[Judged]) -> None:
        for one in finalists:
            if one.candidate.key not in self._measured:
                accuracy = self._tried(one, self.config.bits, self.config.pool)
                if accuracy is not None:
                    self._measured[one.candidate.key] = accuracy

    def _tried(self, one: Judged, bits: int, pool: int | None) -> float | None:
        """Return the accuracy on the trial; None without one, or where the export fails."""
        bundle = self._bundle(one.candidate) if self.trial is not None else None
        if self.trial is None or bundle is None:
            return None
        self.say(f"accuracy of {one.candidate.name}, {bits} bits" + f", pool {pool}" * bool(pool))
        shares = ",".join(map(str, one.schedule.shares))
        config = replace(
            self.config, bits=bits, pool=pool, memory_bytes=one.memory_bytes, schedule=shares
        )
        return self.trial.accuracy(bundle, config, self.engines)

    def _ranked(self, judged: Sequence[Judged]) -> list[Judged]:
        """Put the best first: as accurate as any, within `AS_GOOD`, and then the cheapest frame."""
        kept = [j for j in judged if not j.broken]
        top = max((j.accuracy for j in kept if j.accuracy is not None), default=None)

        def key(one: Judged) -> tuple[Any, ...]:
            if one.accuracy is None or top is None:
                return (bool(one.broken), 1, *self._preference(one.candidate))
            good = one.accuracy >= top - AS_GOOD
            cost = (one.costs.frame_ms,) if good else (-one.accuracy, one.costs.frame_ms)
            return (bool(one.broken), 0, not good, *cost)

        return sorted(judged, key=key)

    def _preference(self, candidate: Candidate) -> tuple[Any, ...]:
        """Where nobody measured: larger inputs, cuts near the default one, higher precision."""
        at = self._order.index(candidate.cut) - self._order.index(self.family.default_cut)
        return (-candidate.input_size, abs(at), FIDELITY.index(candidate.precision))

    def _criterion(self) -> str:
        if self.trial is not None:
            return (
                "accuracy on held-out frames of your stream; what was not tried follows by input "
                "size, then by nearness to the default cut"
            )
        if self._table is not None:
            return (
                f"accuracy of {self.family.name} in fp32 on {' and '.join(self._table.streams)}, "
                f"mean, measured elsewhere; within {100 * AS_GOOD:g} point the cheaper frame "
                "first. Yours will differ: --stream measures it"
            )
        return (
            "input size, then nearness to the default cut, then precision: nobody measured the "
            "accuracy of this backbone; --stream does"
        )

    # what to do with the one that is recommended

    def _codecs(self, best: Judged) -> list[dict[str, Any]]:
        """List ways to store its latents; measured ones where there is a trial."""
        shape = best.candidate.levels[0].shape
        pools = [None, math.ceil(shape[1] / 2)] if len(shape) == 3 and shape[1] > 1 else [None]
        rows = []
        for bits in (4, 8):
            for pool in pools:
                record_bytes = best.candidate.codec(bits, pool).record_bytes + SEQ_BYTES
                is_default = (bits, pool) == (self.config.bits, self.config.pool)
                rows.append({
                    "bits": bits, "pool": pool, "bytes": record_bytes,
                    "latents_per_mb": 1e6 / record_bytes,
                    "held": best.memory_bytes // record_bytes,
                    "accuracy": best.accuracy if is_default and self.trial is not None
                    else self._tried(best, bits, pool),
                })  # fmt: skip
        top = max((row["accuracy"] for row in rows if row["accuracy"] is not None), default=0.0)
        return sorted(rows, key=lambda row: (
            (row["accuracy"] < top - AS_GOOD, row["bytes"]) if row["accuracy"] is not None
            else (row["pool"] is not None, row["bits"])
        ))  # fmt: skip

    def _schedules(self, best: Judged) -> list[dict[str, Any]]:
        """Hold the schedules against the budgets."""
        rows = []
        for name in SCHEDULES:
            one = judge(best.candidate, best.costs, self.limits, self._idle_w, self.config, name)
            rows.append({"schedule": name, "shares": list(one.schedule.shares),
                         "step_ms": one.step_ms, "step_mj": one.step_mj,
                         "steps_per_s": one.steps_per_s})  # fmt: skip
        return rows
