"""Compare: runs contenders over scenarios, and takes their figures. Knows no method."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from plr_edge.backbones import load_backbone
from plr_edge.bench.contenders import Contender, TooSlow, contenders
from plr_edge.bench.scenarios import DATASETS, Part, Scenario, Task, load_parts, make_task
from plr_edge.bundle import Bundle, open_bundle
from plr_edge.config import AdaptConfig
from plr_edge.export import export_bundle
from plr_edge.files import replace_file
from plr_edge.meters import find_power_meters
from plr_edge.metrics import backward_transfer, forgetting

_CHUNK = 16
_MOST_EVALUATED = 1000  # held-out frames after each experience; all of them at the end
_MOST_FINAL = 4000
_MOST_SAID_FIRST = 100  # chunks that are answered before they are learned
_FIRST_FRAMES = (1, 5, 20)
_EACH_OF_A_CLASS = 10  # held-out frames of a class that has just been met
_MOST_EXPERIENCES = 20  # after which the matrix is filled in
_GRID = (0.33, 1.0, 3.0)  # of the learning rates
TUNING_SEED = 99
Say = Callable[[str], None]
Row = dict[str, Any]

QUICK = (
    Scenario(dataset="cifar100", per_class=20),
    Scenario(dataset="grocery", per_class=20),
    Scenario(dataset="fruits", order="blocks"),
    Scenario(dataset="fruits-axes", order="classes", n_experiences=0, per_class=20),
    Scenario(dataset="eth80", per_class=20),
    Scenario(dataset="mnist", n_experiences=5, per_class=20),
)
FULL = (
    *QUICK,
    Scenario(dataset="cifar100"),
    Scenario(dataset="cifar100", per_class=1),
    Scenario(dataset="cifar100", per_class=5),
    Scenario(dataset="cifar100", n_experiences=20, per_class=20),
    Scenario(dataset="cifar100", n_experiences=0, per_class=20),
    Scenario(dataset="cifar100", order="iid", per_class=20),
    Scenario(dataset="cifar100", order="long tail", per_class=100),
    Scenario(dataset="cifar100", per_class=20, noise=0.1),
    Scenario(dataset="cifar100", per_class=20, noise=0.2),
    Scenario(dataset="grocery"),
    Scenario(dataset="grocery", per_class=1),
    Scenario(dataset="grocery", per_class=5),
    Scenario(dataset="fruits-axes", order="blocks"),
)


@dataclass
class Memory:
    """Highest resident memory of this process above what it was, sampled on a thread."""

    start_bytes: int = 0
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        process = psutil.Process()
        self.start_bytes = self.peak_bytes = process.memory_info().rss

        def watch() -> None:
            while not self._stop.wait(0.05):
                self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)

        threading.Thread(target=watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()


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


def run_one(
    name: str,
    scenario: Scenario,
    seed: int,
    *,
    data: Path,
    output: Path,
    config: AdaptConfig,
    tuned: dict[str, Any],
) -> Row:
    """Run one method over one scenario in one order; every row is a process's own work.

    Returns:
        Facts that fit JSON; `skipped` says why there are no figures.
    """
    bundles = make_bundles(output, lambda _: None)
    dataset = DATASETS[scenario.dataset]
    parts = load_parts(dataset, bundles[0], data, output / "cache", lambda _: None)
    task = make_task(scenario, bundles, parts, seed)
    row: Row = {"scenario": scenario.name, "method": name, "seed": seed, "tuned": tuned,
                "n_frames": len(task.train.labels), "n_classes": len(task.classes)}  # fmt: skip
    try:
        with Memory() as memory:
            contender = contenders()[name](task, replace(config, seed=seed), **tuned)
            row.update(Course(contender, task).run())
    except TooSlow as reason:
        return {**row, "skipped": str(reason)}
    row["rss_growth_bytes"] = memory.peak_bytes - memory.start_bytes
    row["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return row


class Course:
    """One pass of a contender over a task, with looks at the held-out frames on the way."""

    def __init__(self, contender: Contender, task: Task) -> None:
        self.contender, self.task = contender, task
        self.learn_s, self.answer_s, self.n_answered = 0.0, 0.0, 0
        n = len(task.test.labels)
        self._few = task.test.take(np.arange(0, n, max(1, n // _MOST_EVALUATED)))
        ends = [*task.starts[1:], len(task.train.labels)]
        self._experiences = list(zip(task.starts, ends, strict=True))
        every = -(-len(self._experiences) // _MOST_EXPERIENCES)
        self._looked_at = range(every - 1, len(self._experiences), every)
        self._right_first: list[bool] = []
        self._say_every = max(_CHUNK, len(task.train.labels) // _MOST_SAID_FIRST)
        self._next_said = self._say_every
        self._after: dict[int, list[float]] = {n: [] for n in _FIRST_FRAMES}

    def run(self) -> Row:
        """Return the figures of the whole course."""
        first_met = self._class_groups()
        rows: list[list[float]] = []
        seen_accuracy: list[list[float]] = []
        meters, _ = find_power_meters()
        for meter in meters:
            meter.start()
        for at, (start, end) in enumerate(self._experiences):
            self._experience(start, end, one_class=len(self._experiences) == self._n_classes)
            if at in self._looked_at:
                self._timed(self.contender.new_experience)
                row, seen = self._look(first_met[: at + 1], first_met)
                rows.append(row)
                seen_accuracy.append([end, seen])
            elif at < len(self._experiences) - 1:
                self._timed(self.contender.new_experience)
        self._timed(self.contender.finish)
        readings = [meter.stop() for meter in meters]
        joules = [r.total_mj / 1e3 for r in readings if r.total_mj is not None]
        matrix = np.array(rows, float)
        n_taught = len(self.task.train.labels)
        facts: Row = {
            "variants": self._final(),
            "average_accuracy": float(np.mean([a for _, a in seen_accuracy])),
            "curve": seen_accuracy,
            "forgetting": _number(forgetting(matrix)),
            "backward_transfer": _number(backward_transfer(matrix)),
            "forward_transfer": _number(_forward(matrix, self._n_classes)),
            "prequential": float(np.mean(self._right_first)) if self._right_first else None,
            "learn_s": self.learn_s,
            "learn_ms_per_frame": 1e3 * self.learn_s / n_taught,
            "answer_ms_per_frame": 1e3 * self.answer_s / max(self.n_answered, 1),
            "frozen_ms_per_frame": 1e3 * self.task.frozen_s,
            **self.contender.costs(),
        }
        if joules:
            facts["joules"] = sum(joules)
        for n, values in self._after.items():
            if values:
                facts[f"after_{n}"] = float(np.mean(values))
        return facts

    @property
    def _n_classes(self) -> int:
        return len(np.unique(self.task.train.labels))

    def _class_groups(self) -> list[np.ndarray]:
        """Return the classes that each looked-at group of experiences meets first."""
        met: set[int] = set()
        groups = []
        for start, end in self._experiences:
            own = set(self.task.train.labels[start:end].tolist())
            groups.append(np.array(sorted(own - met), np.int64))
            met |= own
        return groups

    def _experience(self, start: int, end: int, *, one_class: bool) -> None:
        at = start
        first = [1, 4, 15] if one_class else []
        while at < end:
            size = first.pop(0) if first else _CHUNK
            chunk = self.task.train.take(np.arange(at, min(at + size, end)))
            if at >= self._next_said > 0:  # say first, then learn
                self._next_said += self._say_every
                self._right_first += (self._answers(chunk) == chunk.labels).tolist()
            self._timed(self.contender.learn, chunk)
            at += len(chunk.labels)
            if one_class and at - start in self._after:
                label = int(chunk.labels[-1])
                own = np.flatnonzero(self.task.test.labels == label)[:_EACH_OF_A_CLASS]
                right = self._answers(self.task.test.take(own)) == label
                self._after[at - start].append(float(right.mean()))

    def _look(
        self, groups: list[np.ndarray], all_groups: list[np.ndarray]
    ) -> tuple[list[float], float]:
        """Return accuracy on each group's classes, and on all classes met so far."""
        right = self._answers(self._few) == self._few.labels
        labels = self._few.labels
        looked = [np.concatenate(all_groups[max(0, i - self._looked_at.step + 1) : i + 1])
                  for i in self._looked_at]  # fmt: skip
        row = [_mean(right[np.isin(labels, group)]) for group in looked]
        return row, _mean(right[np.isin(labels, np.concatenate(groups))])

    def _final(self) -> dict[str, float]:
        n = len(self.task.test.labels)
        most = getattr(self.contender, "MOST_TESTED", _MOST_FINAL)
        part = self.task.test.take(np.arange(0, n, max(1, n // most)))
        answers = self.contender.answers(part)
        return {name: float((a == part.labels).mean()) for name, a in answers.items()}

    def _answers(self, part: Part) -> np.ndarray:
        start = time.perf_counter()
        answers = self.contender.answers(part)[""]
        self.answer_s += time.perf_counter() - start
        self.n_answered += len(part.labels)
        return answers

    def _timed(self, act: Callable[..., None], *arguments: Any) -> None:
        start = time.perf_counter()
        act(*arguments)
        self.learn_s += time.perf_counter() - start


def run_grid(
    scenarios: tuple[Scenario, ...],
    methods: tuple[str, ...],
    seeds: range,
    *,
    data: Path,
    output: Path,
    config: AdaptConfig,
    jobs: int,
    say: Say,
    backend: str = "loky",
) -> list[Row]:
    """Run what is missing of a grid, in processes of their own, keeping each row at once.

    Raises:
        MissingExtraError: joblib, or what another backend needs, is not installed.
    """
    from plr_edge.bench.grid import in_processes

    bundles = make_bundles(output, say)
    for name in dict.fromkeys(scenario.dataset for scenario in scenarios):
        load_parts(DATASETS[name], bundles[0], data, output / "cache", say)
    rows = read_rows(output, config)
    tuned = read_tuned(output)
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
    methods: dict[str, str], scenario: Scenario, *, data: Path, output: Path, config: AdaptConfig,
    say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Choose each method's learning rate on a seed that no table shows; keep it for every scenario.

    Args:
        methods: name and the setting that the grid multiplies.
        scenario: on which; its held-out frames choose, for every method alike.
    """
    own = read_tuned(output)
    for name, setting in methods.items():
        if name in own:
            continue
        tried = {}
        for factor in _GRID:
            value = factor * TUNABLE_DEFAULTS[setting]
            row = run_one(name, scenario, TUNING_SEED, data=data, output=output, config=config,
                          tuned={setting: value})  # fmt: skip
            tried[value] = max(row.get("variants", {"": 0.0}).values())
            say(f"tuning {name:<30} {setting} {value:.2g}  {tried[value]:6.1%}")
        own[name] = {setting: max(tried, key=lambda value: tried[value])}
        replace_file(output / "tuned.json", json.dumps(own, indent=1).encode())
    return own


TUNABLE_DEFAULTS = {"blocks_lr": 0.002, "lr": 0.003}
TUNABLE = {
    "AR1-like latent replay": "lr",
    "REMIND-like (PQ latents)": "blocks_lr",
    "internal replay": "blocks_lr",
    "plr": "blocks_lr",
    "plr, static": "blocks_lr",
    "plr, generated": "blocks_lr",
    "joint training": "blocks_lr",
}  # fmt: skip


def read_tuned(output: Path) -> dict[str, Any]:
    """Return what `tune` chose."""
    file = output / "tuned.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def read_rows(output: Path, config: AdaptConfig) -> list[Row]:
    """Return the rows kept so far of the same settings."""
    file = output / "compare.json"
    if not file.is_file():
        return []
    kept = json.loads(file.read_text())
    return list(kept["rows"]) if kept["config"] == _plain(config) else []


def write_rows(output: Path, config: AdaptConfig, rows: list[Row]) -> None:
    """Keep all rows."""
    text = json.dumps({"config": _plain(config), "rows": rows}, indent=1)
    replace_file(output / "compare.json", text.encode())


def _plain(config: AdaptConfig) -> Any:
    return json.loads(json.dumps({**asdict(config), "seed": 0}))


def _forward(matrix: np.ndarray, n_classes: int) -> float:
    """Return the mean accuracy on what comes next, above chance (Lopez-Paz and Ranzato, 2017)."""
    if len(matrix) < 2:
        return float("nan")
    return float(np.mean(np.diag(matrix, 1)) - 1 / n_classes)


def _mean(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
