"""Consolidation: which blocks to train, how much, and at which resolution.

A stream is taught once for each way to store latents. Every cycle then starts from a copy of that
process, so that cycles differ in nothing but themselves.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from benchmarks.methods.plr import PlrEdge
from benchmarks.results import Row, Rows, in_processes
from benchmarks.runner import Settings, make_benchmark
from benchmarks.scenarios import Benchmark, Scenario
from benchmarks.unknown import in_parts, teach
from plr_edge.errors import PlrEdgeError
from plr_edge.replay.latent_memory import SEQ_BYTES
from plr_edge.runtime.consolidation import ConsolidationBudget

SCHEDULES = ("classifier", "progressive", "layer_idx", "cumulative_weights", "internal")
RATIOS = (0.03, 0.1, 0.3, 0.75, 1.5, 3.0)  # multiply-adds for each one of perceiving the labels
_RATIOS_OF_MORE_SEEDS = (0.1, 0.75, 3.0)

MAIN = (
    Scenario(dataset="grocery", order="given"),
    Scenario(dataset="cifar100", per_class=100),
    Scenario(dataset="eth80", n_experiences=0, per_class=20),
    Scenario(dataset="fruits-axes", order="given"),
)
QUICK = MAIN[2:3]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How latents are stored, and at which resolution blocks are trained.

    Attributes:
        memory_bytes: budget of the latent memory.
        bits: bits per value.
        pool: side to which stored maps are pooled. None stores them as they are.
        window: side of the part that blocks are trained on; None for half the side, 0 for all.
    """

    memory_bytes: int
    bits: int = 4
    pool: int | None = None
    window: int | None = None


@dataclass(frozen=True)
class Cycle:
    """One cycle: a schedule, and multiply-adds for each one of perceiving the labels."""

    schedule: str
    ratio: float


class Group(NamedTuple):
    """A stream in one seed's order, how it is stored, and the cycles that start from there."""

    scenario: Scenario
    seed: int
    storage: Storage
    cycles: tuple[Cycle, ...]


def schedules(memory_bytes: int, seeds: int, scenarios: tuple[Scenario, ...]) -> list[Group]:
    """Return the grid of schedules and ratios: all ratios of the first seed, three of others."""
    return [
        Group(scenario, seed, Storage(memory_bytes=memory_bytes), tuple(
            Cycle(name, ratio)
            for ratio in (_RATIOS_OF_MORE_SEEDS if seed else RATIOS) for name in SCHEDULES
        ))
        for seed in range(seeds) for scenario in scenarios
    ]  # fmt: skip


def resolutions(memory_bytes: int, seeds: int, scenarios: tuple[Scenario, ...]) -> list[Group]:
    """Return the grid of windows, pooling, bits and bytes, with the same steps or multiply-adds."""
    storages = [
        Storage(memory_bytes=size, bits=bits, pool=pool, window=window)
        for size in (memory_bytes, memory_bytes // 4)
        for bits, pool, window in (
            (4, None, 0), (4, None, None), (4, None, 3), (4, 2, 0), (4, 3, 0), (8, None, 0),
            (8, None, None),
        )
    ]  # fmt: skip
    cycles = (Cycle("classifier", 0.1), Cycle("internal", 0.375), Cycle("internal", 1.5))
    return [
        Group(scenario, seed, storage, cycles)
        for seed in range(seeds) for scenario in scenarios for storage in storages
    ]  # fmt: skip


def run_group(group: Group, settings: Settings) -> list[Row]:
    """Teach a stream once, and run each cycle from there. Returns a row for each."""
    scenario, seed, storage, cycles = group
    benchmark, rows = make_benchmark(scenario, seed, settings), list[Row]()
    # the classifier alone is trained on whole maps, as blocks that do not move answer with these
    for base, own in (
        ("classifier", [c for c in cycles if c.schedule == "classifier"]),
        ("auto", [c for c in cycles if c.schedule != "classifier"]),
    ):
        config = replace(
            settings.config, seed=seed, train_ratio=0, schedule=base, **asdict(storage)
        )
        if not own:
            continue
        try:
            method = PlrEdge(benchmark, config)
        except PlrEdgeError as error:  # e.g. these maps have no such window
            rows += [{**_key(group, cycle), "skipped": str(error)} for cycle in own]
            continue
        teach(method)
        for cycle in own:
            row = _in_a_copy(lambda m=method, c=cycle: _cycled(m, benchmark, c))
            rows.append({**_key(group, cycle), **row})
    return rows


def _key(group: Group, cycle: Cycle) -> Row:
    settings = {**asdict(group.storage), **asdict(cycle)}
    return {"stream": group.scenario.name, "seed": group.seed, **settings}


def _cycled(method: PlrEdge, benchmark: Benchmark, cycle: Cycle) -> Row:
    session, start = method.session, time.process_time()
    learner, training = session.learner, session.training
    n_labels = session.learned.n_taught
    budget = cycle.ratio * n_labels * training.perception_macs
    before = learner.features.cost.macs
    session.consolidate(ConsolidationBudget(macs=budget), cycle.schedule)
    seconds = time.process_time() - start
    return {
        "accuracy": _accuracy(method, benchmark),
        "macs": learner.features.cost.macs - before,
        "seconds": seconds,
        "steps_per_level": learner.features.cost.steps_per_level,
        "step_macs": learner.step_macs[0],
        "latent_bytes": training.memory.record_bytes - SEQ_BYTES,
        "n_latents": len(training.memory),
        "n_labels": n_labels,
        "side": session.config.window,
        "published": bool(session.learned.has_moved or cycle.schedule == "classifier"),
    }


def _accuracy(method: PlrEdge, benchmark: Benchmark) -> float:
    answers = in_parts(lambda part: method.answers(part)[""], benchmark.test)
    return float((answers == benchmark.test.labels).mean())


def _in_a_copy(function: Callable[[], Row]) -> Row:
    """Run a function in a fork of this process, and return what it returns.

    Raises:
        RuntimeError: it failed there.
    """
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writes, json.dumps(function()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise RuntimeError("a cycle failed; its traceback is above")
    row: Row = json.loads(data)
    return row


def run_groups(
    groups: list[Group],
    settings: Settings,
    *,
    jobs: int,
    say: Callable[[str], None],
    again: bool,
) -> list[Row]:
    """Run the missing cycles; keep each row at once.

    Args:
        groups: streams with their cycles, most important first.
        settings: what the rows have in common.
        jobs: processes at a time.
        say: called with progress.
        again: run all of them again.
    """
    for one in {group.scenario.dataset: group.scenario for group in groups}.values():
        make_benchmark(one, 0, settings, say)
    kept = Rows(settings.output / "consolidation.jsonl", settings.key(), again=again)
    keys: list[dict[str, Any]] = [_key(group, cycle) for group in groups for cycle in group.cycles]
    names = tuple(keys[0])
    done = kept.of(*names)
    missing: list[Group] = []
    for group in groups:
        left = tuple(c for c in group.cycles if tuple(_key(group, c).values()) not in done)
        if left:
            missing.append(group._replace(cycles=left))
    n_missing = sum(len(group.cycles) for group in missing)
    say(f"{n_missing} of {len(keys)} cycles are missing")
    for rows in in_processes([(run_group, (group, settings)) for group in missing], jobs):
        for row in rows:
            kept.add(row)
            said = row.get("skipped") or f"{row['accuracy']:.1%}, {row['macs'] / 1e9:.0f} GMAC"
            cycle = f"{row['schedule']} {row['ratio']:g}"
            say(f"{row['stream']:<24} seed {row['seed']}  {cycle}: {said}")
    found = {tuple(row[name] for name in names): row for row in kept.rows}
    return [found[tuple(key.values())] for key in keys]
