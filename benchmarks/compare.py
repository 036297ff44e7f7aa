"""Compare: runs contenders over scenarios, all tuned alike, and keeps their rows."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.contenders import TooSlow, contenders
from benchmarks.course import PeakMemory, Row, Run, final_accuracy
from benchmarks.datasets import find_dataset, load_parts
from benchmarks.scenarios import Scenario, Task, make_task
from plr_edge.backbones import load_backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.export import export_bundle
from plr_edge.files import replace_file
from plr_edge.meters.board import describe_machine

TUNING_SEED = 99
TUNING_SCENARIO = Scenario(dataset="cifar100", per_class=20)
_GRID = (0.33, 1.0, 3.0)  # times the setting's default
_TESTED_IN_TUNING = 1000
_COMPUTES = ("plr-edge", "torch", "onnxruntime", "numpy")
Say = Callable[[str], None]


def _silent(text: str) -> None:
    return


def make_bundles(output: Path, say: Say) -> tuple[Bundle, Bundle]:
    """Export the bundle of the comparison, with a static feature and without, or open it."""
    made = []
    for name, static in (("bundle-static", True), ("bundle", False)):
        path = output / name
        if not path.exists():
            say(f"exporting {path}")
            network = load_backbone("mobilenet_v2")
            export_bundle(network, "block14", path, static_feature=static)
        made.append(open_bundle(path))
    return made[0], made[1]


def make_one(scenario: Scenario, seed: int, data: Path, output: Path, say: Say = _silent) -> Task:
    """Return a scenario in one seed's order, run through the frozen part on the way if need be."""
    bundles = make_bundles(output, say)
    parts = load_parts(find_dataset(scenario.dataset), bundles[0], data, output / "cache", say)
    return make_task(scenario, bundles, parts, seed)


def run_one(
    name: str,
    scenario: Scenario,
    seed: int,
    *,
    data: Path,
    output: Path,
    config: LearningConfig,
    tuned: dict[str, Any],
) -> Row:
    """Run one method over one scenario in one seed's order.

    Returns:
        Facts that fit JSON; `skipped` says why there are no figures.
    """
    bundles = make_bundles(output, lambda _: None)
    parts = load_parts(
        find_dataset(scenario.dataset), bundles[0], data, output / "cache", lambda _: None
    )
    task = make_task(scenario, bundles, parts, seed)
    row: Row = {"scenario": scenario.name, "method": name, "seed": seed, "tuned": tuned,
                "n_frames": len(task.train.labels), "n_classes": len(task.classes)}  # fmt: skip
    try:
        with PeakMemory() as memory:
            contender = contenders()[name](task, replace(config, seed=seed), **tuned)
            row.update(Run(contender, task).run())
    except TooSlow as reason:
        return {**row, "skipped": str(reason)}
    row["rss_growth_bytes"] = memory.peak_bytes - memory.start_bytes
    row["peak_rss_bytes"] = memory.peak_bytes
    return row


def run_grid(
    scenarios: tuple[Scenario, ...],
    methods: tuple[str, ...],
    seeds: range,
    *,
    data: Path,
    output: Path,
    config: LearningConfig,
    jobs: int,
    say: Say,
    backend: str = "loky",
) -> list[Row]:
    """Run what is missing of a grid, in processes of their own, keeping each row at once.

    Raises:
        MissingExtraError: joblib, or what another backend needs, is not installed.
    """
    from benchmarks.grid import in_processes

    for name in dict.fromkeys(scenario.dataset for scenario in scenarios):
        make_one(Scenario(dataset=name), 0, data, output, say)
    tuned = read_tuned(output)
    rows = [
        row for row in read_rows(output, config) if row["tuned"] == tuned.get(row["method"], {})
    ]  # what was run before a setting was chosen is run again
    done = {(row["scenario"], row["method"], row["seed"]) for row in rows}
    wanted = [
        (method, scenario, seed)
        for seed in seeds
        for scenario in scenarios
        for method in methods
        if (scenario.name, method, seed) not in done
    ]
    say(f"{len(wanted)} of {len(seeds) * len(scenarios) * len(methods)} runs are missing")
    calls = [(run_one, one, {"data": data, "output": output, "config": config,
                         "tuned": tuned.get(one[0], {})}) for one in wanted]  # fmt: skip
    for row in in_processes(calls, jobs, backend):
        rows.append(row)
        write_rows(output, config, rows)
        best = max(row.get("variants", {"": float("nan")}).values())
        say(f"{row['scenario']:<34} {row['method']:<30} seed {row['seed']}  {best:6.1%}  "
            f"{row.get('learn_s', float('nan')):7.1f} s")  # fmt: skip
    return rows


def tune(
    *, data: Path, output: Path, config: LearningConfig, jobs: int, say: Say, backend: str = "loky"
) -> dict[str, Any]:
    """Choose one setting of every method in `TUNABLE` on a seed that no table shows.

    Each tries the same three multiples of its default on one scenario, whose held-out frames
    choose, and a fourth beyond the best if that is the smallest or the largest; the choice holds
    for every scenario. What was tried is kept at once in `tuning.json`.
    """
    from benchmarks.grid import in_processes

    make_one(TUNING_SCENARIO, TUNING_SEED, data, output, say)
    given = {"data": data, "output": output, "config": config}
    tried = _read_tried(output)
    while calls := [
        (tried_accuracy, (name, value), given)
        for name in TUNABLE
        for value in _wanted(name, tried.get(name, {})) - set(tried.get(name, {}))
    ]:
        for name, value, accuracy in in_processes(calls, jobs, backend):
            tried.setdefault(name, {})[value] = accuracy
            replace_file(output / "tuning.json", json.dumps(tried, indent=1).encode())
            say(f"tuning {name:<30} {TUNABLE[name][0]} {value}  {accuracy:6.1%}")
    return read_tuned(output)


def tried_accuracy(
    name: str, value: str, *, data: Path, output: Path, config: LearningConfig
) -> tuple[str, str, float]:
    """Return a method, a value of its setting, and the accuracy that it had in tuning."""
    task = make_one(TUNING_SCENARIO, TUNING_SEED, data, output)
    seeded = replace(config, seed=TUNING_SEED)
    contender = contenders()[name](task, seeded, **{TUNABLE[name][0]: float(value)})
    return name, value, final_accuracy(contender, task, _TESTED_IN_TUNING)


# what is tuned, and from which default; the others choose their setting on the stream itself
TUNABLE = {
    "naive Bayes": ("floor", 0.1),
    "naive linear classifier": ("lr", 0.1),
    "feature replay": ("lr", 0.3),
    "naive fine-tuning": ("blocks_lr", 0.002),
    "raw replay, whole network": ("lr", 0.002),
    "AR1-like latent replay": ("lr", 0.003),
    "REMIND-like (PQ latents)": ("blocks_lr", 0.002),
    "internal replay": ("blocks_lr", 0.002),
    "plr": ("blocks_lr", 0.002),
    "plr, static": ("blocks_lr", 0.002),
    "plr, generated": ("blocks_lr", 0.002),
    "joint training": ("blocks_lr", 0.002),
}


def read_tuned(output: Path) -> dict[str, Any]:
    """Return the best of what `tune` tried, of each method that tried all it should."""
    return {
        name: {TUNABLE[name][0]: float(_best(tried))}
        for name, tried in _read_tried(output).items()
        if set(tried) == _wanted(name, tried)
    }


def _wanted(name: str, tried: dict[str, float]) -> set[str]:
    """Return the values that a method should try, as text: known when the first three were."""
    grid = [TUNABLE[name][1] * factor for factor in _GRID]
    values = [f"{value:.2g}" for value in grid]
    if set(values) <= set(tried):
        best = _best({value: tried[value] for value in values})
        beyond = {values[0]: grid[0] * _GRID[0], values[-1]: grid[-1] * _GRID[-1]}
        values += [f"{beyond[best]:.2g}"] if best in beyond else []
    return set(values)


def _best(tried: dict[str, float]) -> str:
    return max(tried, key=lambda value: tried[value])


def _read_tried(output: Path) -> dict[str, dict[str, float]]:
    file = output / "tuning.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def read_rows(output: Path, config: LearningConfig) -> list[Row]:
    """Return the rows kept so far of the same settings."""
    file = output / "compare.json"
    if not file.is_file():
        return []
    kept = json.loads(file.read_text())
    return list(kept["rows"]) if kept["config"] == _plain(config) else []


def write_rows(output: Path, config: LearningConfig, rows: list[Row]) -> None:
    """Keep all rows, with the machine, the versions and the command of the newest."""
    about = {"machine": describe_machine(), **describe_run()}
    text = json.dumps({"config": _plain(config), **about, "rows": rows}, indent=1)
    replace_file(output / "compare.json", text.encode())


def describe_run() -> dict[str, str]:
    """Return versions of what computes, and the command line."""
    versions = {name: importlib.metadata.version(name) for name in _COMPUTES}
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"python": sys.version.split()[0], **versions, "command": command}


def _plain(config: LearningConfig) -> Any:
    return json.loads(json.dumps({**asdict(config), "seed": 0}))
