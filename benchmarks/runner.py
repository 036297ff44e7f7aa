"""Runs methods over scenarios and keeps their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.data.datasets import find_dataset
from benchmarks.data.encoded import encode
from benchmarks.data.encoders import (
    BIR,
    MOBILENET,
    bir_encoder,
    bundle_encoder,
    pixel_encoder,
)
from benchmarks.methods.registry import METHODS, make_method
from benchmarks.results import Row, Rows, in_processes
from benchmarks.run import PeakMemory, Run
from benchmarks.scenarios import Benchmark, Scenario, arrange
from plr_edge.backbones import load_backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.export.bundle_export import export_bundle

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the rows of a benchmark have in common.

    Attributes:
        data: folder of the image packs.
        output: folder of results and caches.
        config: memory, rates and sizes; its seed is replaced by each run's.
        bundle: bundle to use; MobileNetV2 at 128 pixels, exported on the way, by default.
        weights: weights of bir_c3, a file or their folder.
    """

    data: Path
    output: Path
    config: LearningConfig
    bundle: Path | None = None
    weights: Path | None = None

    def key(self) -> Row:
        """Return what a row depends on beside its scenario, method and seed."""
        bundle = open_bundle(self.bundle).frozen_sha256 if self.bundle else None
        return {"config": {**asdict(self.config), "seed": 0}, "bundle": bundle}


@dataclass(frozen=True)
class Cell:
    """One run of a grid: a method over a scenario in one seed's order."""

    method: str
    scenario: Scenario
    seed: int


def silent(text: str) -> None:
    """Print nothing."""


def open_bundles(settings: Settings, say: Say = silent) -> tuple[Bundle, Bundle]:
    """Open the bundle and the same with a static feature; export them if need be."""
    if settings.bundle:
        bundle = open_bundle(settings.bundle)
        return bundle, bundle
    made = []
    for name, static in (("bundle", False), ("bundle-static", True)):
        path = settings.output / name
        if not path.exists():
            say(f"exporting {path}")
            export_bundle(load_backbone(MOBILENET), "block14", path, static_feature=static)
        made.append(open_bundle(path))
    return made[0], made[1]


def make_benchmark(
    scenario: Scenario, seed: int, settings: Settings, say: Say = silent
) -> Benchmark:
    """Return a scenario in one seed's order, encoded on the way if need be."""
    bundles = open_bundles(settings, say) if scenario.encoder == MOBILENET else None
    if bundles:
        encoder = bundle_encoder(bundles[1])
    elif scenario.encoder == BIR:
        encoder = bir_encoder(settings.weights)
    else:
        encoder = pixel_encoder()
    cache = settings.output / "cache"
    encoded = encode(find_dataset(scenario.dataset), encoder, settings.data, cache, say)
    return arrange(scenario, encoded, seed, bundles)


def run_one(cell: Cell, settings: Settings, tuned: dict[str, Any]) -> Row:
    """Run one method over one scenario in one seed's order.

    Returns:
        JSON values; `skipped` says why there are no measurements.
    """
    benchmark = make_benchmark(cell.scenario, cell.seed, settings)
    spec, n = METHODS[cell.method], len(benchmark.train.labels)
    row: Row = {"scenario": cell.scenario.name, "method": cell.method, "seed": cell.seed,
                "tuned": tuned, "n_frames": n, "n_classes": len(benchmark.classes)}  # fmt: skip
    if spec.most_frames is not None and n > spec.most_frames:
        return {**row, "skipped": f"{n} frames; at most {spec.most_frames} are tried"}
    config = replace(settings.config, seed=cell.seed)
    with PeakMemory() as memory:
        method = make_method(cell.method, benchmark, config, tuned)
        row.update(Run(method, benchmark).run(spec.most_tested))
    row["rss_growth_bytes"] = memory.peak_bytes - memory.start_bytes
    row["peak_rss_bytes"] = memory.peak_bytes
    return row


def run_grid(
    cells: list[Cell],
    name: str,
    settings: Settings,
    *,
    tuned: dict[str, Any],
    jobs: int,
    say: Say,
    again: bool = False,
) -> list[Row]:
    """Run the missing cells of a grid, each in a process of its own; keep each row at once.

    Args:
        cells: what to run, most important first.
        name: name of the file of rows.
        settings: what the rows have in common.
        tuned: chosen settings by method. Rows with other ones are run again.
        jobs: processes at a time.
        say: called with progress.
        again: run all cells again.

    Returns:
        The rows of the cells, in their order.
    """
    for scenario in {(cell.scenario.dataset, cell.scenario.encoder): cell.scenario
                     for cell in cells}.values():  # fmt: skip
        make_benchmark(scenario, 0, settings, say)
    kept = Rows(settings.output / f"{name}.jsonl", settings.key(), again=again)
    done = {_key(row): row for row in kept.rows if row["tuned"] == tuned.get(row["method"], {})}
    keys = [(cell.scenario.name, cell.method, cell.seed) for cell in cells]
    missing = [cell for cell, key in zip(cells, keys, strict=True) if key not in done]
    say(f"{len(missing)} of {len(cells)} runs are missing")
    calls = [(run_one, (cell, settings, tuned.get(cell.method, {}))) for cell in missing]
    for row in in_processes(calls, jobs):
        kept.add(row)
        done[_key(row)] = row
        best = max(row.get("variants", {"": float("nan")}).values())
        say(f"{row['scenario']:<34} {row['method']:<34} seed {row['seed']}  {best:6.1%}  "
            f"{row.get('learn_s', float('nan')):7.1f} s")  # fmt: skip
    return [done[key] for key in keys]


def _key(row: Row) -> tuple[str, str, int]:
    return row["scenario"], row["method"], row["seed"]
