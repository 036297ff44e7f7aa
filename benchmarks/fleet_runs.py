"""Fleets over seeds and ways to share out classes, each in a process of its own."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from benchmarks.fleet import OVERLAPS, Fleet
from benchmarks.results import Row, Rows, in_processes, table, write_results
from benchmarks.runner import Say, Settings, make_benchmark
from benchmarks.scenarios import Scenario
from benchmarks.summary import half_interval
from plr_edge.report import page as report


def run_fleet(
    scenario: Scenario, n_robots: int, overlap: str, seed: int, settings: Settings
) -> list[Row]:
    """Run one fleet; return a row for each way to share."""
    benchmark = make_benchmark(scenario, seed, settings)
    rows = Fleet(benchmark, n_robots, overlap, replace(settings.config, seed=seed)).run()
    about = {"dataset": f"{scenario.dataset} x {scenario.per_class}", "classes": overlap,
             "robots": n_robots, "seed": seed}  # fmt: skip
    return [{**about, **row} for row in rows]


def run_fleets(
    scenario: Scenario,
    n_robots: int,
    n_seeds: int,
    settings: Settings,
    *,
    jobs: int,
    say: Say,
    again: bool = False,
) -> list[Row]:
    """Run what is missing of all seeds and ways to share out classes; keep rows at once.

    Returns:
        Rows of `Fleet.run` with `dataset`, `classes`, `robots` and `seed`, in the order of seeds.

    Raises:
        MissingExtraError: joblib is not installed.
    """
    make_benchmark(scenario, 0, settings, say)
    key = {**settings.key(), "scenario": asdict(scenario), "robots": n_robots}
    kept = Rows(settings.output / "fleet.jsonl", key, again=again)
    done = kept.of("classes", "seed")
    calls = [
        (run_fleet, (scenario, n_robots, overlap, seed, settings))
        for seed in range(n_seeds)
        for overlap in OVERLAPS
        if (overlap, seed) not in done
    ]
    say(f"{len(calls)} of {n_seeds * len(OVERLAPS)} fleets are missing")
    for rows in in_processes(calls, jobs):
        for row in rows:
            kept.add(row)
            size = "" if row["bytes"] is None else f"{row['bytes'] / 1e3:9,.0f} kB"
            say(f"{row['classes']:<12} {row['sent']:<46} {row['answers']:<12} {size:>12}  "
                f"{np.mean(row['accuracies']):6.1%}")  # fmt: skip
    overlaps = list(OVERLAPS)
    rows = [row for row in kept.rows if row["seed"] < n_seeds]
    rows.sort(key=lambda row: (row["seed"], overlaps.index(row["classes"])))
    write_results(settings.output, "fleet", rows, markdown(rows), lambda: _sections(rows))
    return rows


def summary(rows: list[Row], classes: str) -> list[Row]:
    """Return a line for each way to share: bytes a robot sends, accuracy over robots and seeds."""
    own = [row for row in rows if row["classes"] == classes]
    lines = []
    for sent, answers in dict.fromkeys((row["sent"], row["answers"]) for row in own):
        group = [row for row in own if (row["sent"], row["answers"]) == (sent, answers)]
        by_seed = np.array([100 * np.mean(row["accuracies"]) for row in group])
        sizes = [row["bytes"] for row in group if row["bytes"] is not None]
        lines.append(
            {
                "sent": sent,
                "answers": answers,
                "kB a robot": float(np.mean(sizes)) / 1e3 if sizes else None,
                "accuracy %": float(by_seed.mean()),
                "±": half_interval(by_seed),
            }
        )
    return lines


def markdown(rows: list[Row]) -> str:
    """Return one table, the two ways in which classes are shared out beside each other."""
    tables = {kind: summary(rows, kind) for kind in dict.fromkeys(row["classes"] for row in rows)}
    lines = []
    for group in zip(*tables.values(), strict=True):
        line = {"sent": group[0]["sent"], "answers with": group[0]["answers"]}
        for kind, one in zip(tables, group, strict=True):
            spread = "" if one["±"] is None else f" ± {one['±']:.1f}"
            size = "" if one["kB a robot"] is None else f"{one['kB a robot']:,.0f}"
            line[f"{kind}: kB"], line[f"{kind}: %"] = size, f"{one['accuracy %']:.1f}{spread}"
        lines.append(line)
    seeds = len({row["seed"] for row in rows})
    what = f"{rows[0]['dataset']}, {rows[0]['robots']} robots, {seeds} seed{'s' * (seeds > 1)}"
    return f"{what}\n\n{table(lines)}"


def _sections(rows: list[Row]) -> list[str]:
    sections = []
    for kind in dict.fromkeys(row["classes"] for row in rows):
        lines = summary(rows, kind)
        points = {
            f"{line['sent']}: {line['answers']}": (max(line["kB a robot"], 1.0), line["accuracy %"])
            for line in lines
            if line["kB a robot"] is not None
        }
        label = "kilobytes that a robot sends (1: none)"
        plot = report.scatter_plot(points, label, "accuracy %")
        sections.append(report.section(f"{kind} classes", plot, report.table(lines)))
    return sections
