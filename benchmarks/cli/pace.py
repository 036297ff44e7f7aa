"""`python -m benchmarks pace`: frames a second while learning, beside AR1-like latent replay."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import (
    again_option,
    bundle_option,
    data_option,
    make_settings,
    output_option,
)


@click.command("pace")
@data_option
@click.option("--per-class", default=20, show_default=True, type=click.IntRange(1),
              help="Frames taught of each class of CIFAR-100.")  # fmt: skip
@click.option("--epochs", default=4, show_default=True, type=click.IntRange(1),
              help="Epochs of AR1-like replay over each experience.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Seed of the order.")
@bundle_option
@again_option
@output_option
def command(
    data: Path, per_class: int, epochs: int, seed: int, bundle: Path | None, again: bool,
    output: Path,
) -> None:  # fmt: skip
    """Learn the same images end to end, beside AR1-like latent replay in eager PyTorch."""
    from dataclasses import replace

    from benchmarks import pace
    from benchmarks.results import measure_once
    from benchmarks.runner import open_bundles

    settings, ar1 = make_settings(data, output, bundle=bundle), {"epochs": epochs}

    def measure() -> pace.Row:
        opened, config = open_bundles(settings, click.echo)[0], replace(settings.config, seed=seed)
        return pace.compare_pace(
            opened, data, config, per_class=per_class, settings=ar1, say=click.echo
        )

    key = {**settings.key(), "per_class": per_class, "seed": seed, "ar1": ar1}
    click.echo(measure_once(output, "pace", key, measure, pace.markdown, again=again))
