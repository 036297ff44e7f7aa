"""Fleets over seeds and ways to share out classes, each in a process of its own; resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fleet_report
from benchmarks.compare import make_one
from benchmarks.fleet import OVERLAPS, Fleet
from benchmarks.grid import in_processes
from benchmarks.scenarios import Scenario
from plr_edge.config import LearningConfig

Row = dict[str, Any]


def run_fleet(
    scenario: Scenario,
    n_robots: int,
    overlap: str,
    seed: int,
    *,
    data: Path,
    output: Path,
    config: LearningConfig,
) -> list[Row]:
    """Run one fleet; return a row for each way to share."""
    task = make_one(scenario, seed, data, output)
    rows = Fleet(task, n_robots, overlap, replace(config, seed=seed)).run()
    return [{"classes": overlap, "robots": n_robots, "seed": seed, **row} for row in rows]


def run_fleets(
    scenario: Scenario,
    n_robots: int,
    n_seeds: int,
    *,
    data: Path,
    output: Path,
    config: LearningConfig,
    jobs: int,
    say: Callable[[str], None],
) -> list[Row]:
    """Run what is missing of all seeds and ways to share out classes, keeping rows at once.

    Returns:
        Rows of `Fleet.run` with `classes`, `robots` and `seed`, in the order of seeds.

    Raises:
        MissingExtraError: joblib is not installed.
    """
    make_one(scenario, 0, data, output, say)
    settings = json.loads(json.dumps([asdict(scenario), n_robots, asdict(config)]))
    rows = fleet_report.read_rows(output, settings)
    done = {(row["classes"], row["seed"]) for row in rows}
    calls = [
        (run_fleet, (scenario, n_robots, overlap, seed),
         {"data": data, "output": output, "config": config})
        for seed in range(n_seeds) for overlap in OVERLAPS if (overlap, seed) not in done
    ]  # fmt: skip
    say(f"{len(calls)} of {n_seeds * len(OVERLAPS)} fleets are missing")
    for new in in_processes(calls, jobs):
        rows = sorted(
            [*rows, *new], key=lambda row: (row["seed"], list(OVERLAPS).index(row["classes"]))
        )
        fleet_report.write_results(output, settings, rows)
        for row in new:
            size = "" if row["bytes"] is None else f"{row['bytes'] / 1e3:9,.0f} kB"
            say(f"{row['classes']:<12} {row['sent']:<46} {row['answers']:<12} {size:>12}  "
                f"{np.mean(row['accuracies']):6.1%}")  # fmt: skip
    return [row for row in rows if row["seed"] < n_seeds]
