"""`python -m benchmarks`: one stream or split, beside what else could be done."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

STREAMS = ("fruits", "fruits-axes", "grocery", "cifar100-stream")
SPLITS = ("cifar100", "mnist")
Row = dict[str, Any]


def make_command(protocol: str) -> click.Command:
    """Return the command of one protocol."""
    kind = "One pass over real frames, stored latents." if protocol in STREAMS else (
        "Class-incremental experiences, generated latents.")  # fmt: skip
    options = _STREAM_OPTIONS if protocol in STREAMS else _SPLIT_OPTIONS
    return click.Command(
        protocol, callback=functools.partial(_run, protocol), params=[*_OPTIONS, *options],
        help=f"Compare methods on {protocol}; resumes where it stopped.  {kind}",
    )  # fmt: skip


_OPTIONS = [
    click.Option(["--data"], required=True, type=click.Path(path_type=Path),
                 help="Folder of packs."),
    click.Option(["--seeds"], default=1, show_default=True, type=click.IntRange(1),
                 help="How many."),
    click.Option(["--first-seed"], default=0, show_default=True, type=click.IntRange(0),
                 help="Of these."),
    click.Option(["--method", "methods"], multiple=True,
                 help="Run only these; may be repeated."),
    click.Option(["-o", "--output"], default="results", show_default=True,
                 type=click.Path(path_type=Path), help="Where results and caches go."),
]  # fmt: skip
_STREAM_OPTIONS = [
    click.Option(["--bundle"], type=click.Path(path_type=Path),
                 help="[default: MobileNetV2 at 128 pixels, exported on the way]"),
    click.Option(["--memory"], default="8MB", show_default=True, help="Bytes for rehearsal."),
    click.Option(["--bits"], type=click.Choice(["4", "8"]), help="Of a stored latent."),
]  # fmt: skip
_SPLIT_OPTIONS = [
    click.Option(["--profile"], default="quick", show_default=True,
                 type=click.Choice(["quick", "paper"]), help="Effort."),
    click.Option(["--weights"], type=click.Path(path_type=Path),
                 help="Of bir_c3, for the split cifar100."),
]  # fmt: skip


def _run(protocol: str, methods: tuple[str, ...], **options: Any) -> None:
    from benchmarks import split, stream_methods
    from plr_edge.errors import ConfigError

    known = stream_methods.METHODS if protocol in STREAMS else split.METHODS
    for name in methods:
        if name not in known:
            raise ConfigError(f"no method {name!r}; there are {', '.join(known)}")
    run = _run_streams if protocol in STREAMS else _run_splits
    run(protocol, methods or tuple(known), options)


def _run_streams(protocol: str, methods: tuple[str, ...], options: Row) -> None:
    from dataclasses import replace

    from benchmarks.stream_methods import run_method
    from benchmarks.streams import PROTOCOLS, load_parts, make_task
    from plr_edge.backbones import load_backbone
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import LearningConfig, parse_bytes
    from plr_edge.export import export_bundle

    bundle, output = options["bundle"], options["output"]
    if bundle is None:
        bundle = output / "bundle"
        if not bundle.exists():
            export_bundle(load_backbone("mobilenet_v2"), "block14", bundle)
    opened = open_bundle(bundle)
    config = LearningConfig(memory_bytes=parse_bytes(options["memory"]))
    config = replace(config, bits=int(options["bits"])) if options["bits"] else config
    parts = load_parts(PROTOCOLS[protocol], opened, options["data"], output / "cache", click.echo)
    key = {"config": vars(config), "bundle": opened.frozen_sha256}
    rows = Rows(output / f"{protocol}.json", key)
    for seed in _seeds(options):
        task = make_task(PROTOCOLS[protocol], opened, parts, seed)
        for name in rows.missing(methods, seed):
            row = run_method(name, task, replace(config, seed=seed))
            rows.add({**row, "seed": seed})
            click.echo(
                f"{name:<24} seed {seed}  {row['accuracy']:6.1%}  "
                f"{row['macs_per_frame'] / 1e6:8.1f} MMAC/frame  {row['seconds']:6.1f} s"
            )
    click.echo(summary(rows.own))


def _run_splits(protocol: str, methods: tuple[str, ...], options: Row) -> None:
    from benchmarks import split, split_data, split_report

    output, profile = options["output"], split.PROFILES[options["profile"]]
    click.echo(f"profile {options['profile']}: {profile}")
    loaded = split_data.SPLITS[protocol](
        options["data"], options["weights"], output / "cache", click.echo
    )
    name = f"{protocol}-{options['profile']}"
    rows = Rows(output / f"{name}.json", {"profile": vars(profile)})
    for seed in _seeds(options):
        for method in rows.missing(methods, seed):
            row = split.run_method(method, loaded, seed, profile)
            rows.add(row)
            click.echo(f"{method:<38} seed {seed}  {row['accuracy']:6.1%}  {row['wall_s']:7.1f} s")
    split_report.write_results(output, name, rows.own)
    for line in split_report.summary(rows.own):
        click.echo("  ".join(f"{_short(value):>10}" for value in line.values()))


def _seeds(options: Row) -> range:
    return range(options["first_seed"], options["first_seed"] + options["seeds"])


def _short(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else "" if value is None else str(value)


class Rows:
    """Results in a file, so that a run that was stopped goes on; those of other settings stay."""

    def __init__(self, file: Path, key: Row) -> None:
        import json

        self.file = file
        self._key = json.loads(json.dumps({**key, "config": {**key.get("config", {}), "seed": 0}}))
        self.all: list[Row] = json.loads(file.read_text()) if file.is_file() else []

    @property
    def own(self) -> list[Row]:
        """Rows of these settings."""
        return [row for row in self.all if all(row.get(k) == v for k, v in self._key.items())]

    def missing(self, methods: tuple[str, ...], seed: int) -> list[str]:
        """Return the methods that have no row for a seed yet."""
        done = {row["method"] for row in self.own if row["seed"] == seed}
        return [name for name in methods if name not in done]

    def add(self, row: Row) -> None:
        """Keep a row, on disk too."""
        import json

        from plr_edge.files import replace_file

        self.all.append(json.loads(json.dumps({**row, **self._key})))
        replace_file(self.file, json.dumps(self.all, indent=1).encode())


def summary(rows: list[Row]) -> str:
    """Return a Markdown table: mean and half width of the 95 % interval over seeds."""
    import numpy as np

    lines = ["| method | accuracy % | MMAC/frame | s |", "|---|---|---|---|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        accuracies = np.array([row["accuracy"] for row in own]) * 100
        spread = f" ± {1.96 * accuracies.std(ddof=1) / len(own) ** 0.5:.1f}" if len(own) > 1 else ""
        macs = np.mean([row["macs_per_frame"] for row in own]) / 1e6
        seconds = np.median([row["seconds"] for row in own])
        lines.append(f"| {name} | {accuracies.mean():.1f}{spread} | {macs:.1f} | {seconds:.0f} |")
    return "\n".join(lines)
