"""`plr-edge bench`: figures on real streams, beside what else could be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("bench")
@click.argument(
    "protocol", type=click.Choice(["fruits", "fruits-axes", "grocery", "cifar100-stream"])
)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder of the image packs."
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Bundle to use.  [default: MobileNetV2 at 128 pixels, exported on the way]",
)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--method", "methods", multiple=True, help="Run only these; may be repeated.")
@click.option("--memory", default="8MB", show_default=True, help="Budget of the latent memory.")
@click.option("--bits", type=click.Choice(["4", "8"]), help="Of a stored latent.")
@click.option(
    "-o",
    "--output",
    default="results",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where results and cached latents go.",
)
def command(protocol: str, data: Path, bundle: Path | None, seeds: int, methods: tuple[str, ...],
            memory: str, bits: str | None, output: Path) -> None:  # fmt: skip
    """Compare methods on PROTOCOL with one pass over its frames; resumes where it stopped."""
    from dataclasses import replace

    from plr_edge.backbones import load_backbone
    from plr_edge.bench.streams import METHODS, PROTOCOLS, load_parts, make_task, run_method
    from plr_edge.bundle import open_bundle
    from plr_edge.config import AdaptConfig, parse_bytes
    from plr_edge.errors import ConfigError
    from plr_edge.export import export_bundle

    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"no method {name!r}; there are {', '.join(METHODS)}")
    if bundle is None:
        bundle = output / "bundle"
        if not bundle.exists():
            export_bundle(load_backbone("mobilenet_v2"), "block14", bundle)
    opened = open_bundle(bundle)
    config = AdaptConfig(memory_bytes=parse_bytes(memory))
    config = replace(config, bits=int(bits)) if bits else config
    parts = load_parts(PROTOCOLS[protocol], opened, data, output / "cache", click.echo)
    file = output / f"{protocol}.json"
    rows = _read(file)
    for seed in range(seeds):
        task = make_task(PROTOCOLS[protocol], opened, parts, seed)
        for name in methods or METHODS:
            key = {
                "method": name,
                "seed": seed,
                "config": _key(config),
                "bundle": opened.frozen_sha256,
            }
            if any(all(row.get(k) == v for k, v in key.items()) for row in rows):
                continue
            row = {**run_method(name, task, replace(config, seed=seed)), **key}
            rows.append(row)
            _write(file, rows)
            click.echo(
                f"{name:<24} seed {seed}  {row['accuracy']:6.1%}  "
                f"{row['macs_per_frame'] / 1e6:8.1f} MMAC/frame  {row['seconds']:6.1f} s"
            )
    click.echo(summary([row for row in rows if row["config"] == _key(config)]))


def summary(rows: list[dict[str, Any]]) -> str:
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


def _key(config: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(config).items() if k != "seed"}


def _read(file: Path) -> list[dict[str, Any]]:
    import json

    return json.loads(file.read_text()) if file.is_file() else []


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    import json

    from plr_edge.bundle import replace_file

    replace_file(file, json.dumps(rows, indent=1).encode())
