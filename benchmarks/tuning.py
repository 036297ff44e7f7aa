"""Chooses one setting of each tunable method, on a seed that no table shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.methods.registry import METHODS, make_method
from benchmarks.results import in_processes
from benchmarks.run import final_accuracy
from benchmarks.runner import Say, Settings, make_benchmark
from benchmarks.scenarios import Scenario
from plr_edge.files import replace_file

TUNING_SEED = 99
TUNING_SCENARIO = Scenario(dataset="cifar100", per_class=20)
TUNABLE = {name: spec.tunable for name, spec in METHODS.items() if spec.tunable}
_GRID = (0.33, 1.0, 3.0)  # times the setting's default
_TESTED = 1000


def tune(settings: Settings, *, jobs: int, say: Say) -> dict[str, dict[str, float]]:
    """Choose the setting of every method in `TUNABLE`.

    Each tries the same three multiples of its default on one scenario, whose held-out frames
    choose, and a fourth beyond the best if that is the smallest or the largest. The choice holds
    for every scenario. What was tried is kept at once in `tuning.json`.
    """
    make_benchmark(TUNING_SCENARIO, TUNING_SEED, settings, say)
    tried = _read_tried(settings.output)
    while calls := [
        (tried_accuracy, (name, value, settings))
        for name in TUNABLE
        for value in _wanted(name, tried.get(name, {})) - set(tried.get(name, {}))
    ]:
        for name, value, accuracy in in_processes(calls, jobs):
            tried.setdefault(name, {})[value] = accuracy
            text = json.dumps(tried, indent=1)
            replace_file(settings.output / "tuning.json", text.encode())
            say(f"tuning {name:<30} {TUNABLE[name][0]} {value}  {accuracy:6.1%}")
    return read_tuned(settings.output)


def tried_accuracy(name: str, value: str, settings: Settings) -> tuple[str, str, float]:
    """Return a method, a value of its setting, and the accuracy that it had in tuning."""
    benchmark = make_benchmark(TUNING_SCENARIO, TUNING_SEED, settings)
    config = replace(settings.config, seed=TUNING_SEED)
    method = make_method(name, benchmark, config, {TUNABLE[name][0]: float(value)})
    return name, value, final_accuracy(method, benchmark, _TESTED)


def read_tuned(output: Path) -> dict[str, dict[str, float]]:
    """Return the best setting of each method that tried all of its values."""
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
