"""`python -m benchmarks growth`: the cost of a step as classes and latents become many."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import again_option, bundle_option, make_settings, output_option


@click.command("growth")
@click.option("--quick", is_flag=True, help="Measure few classes and latents.")
@bundle_option
@again_option
@output_option
def command(quick: bool, bundle: Path | None, again: bool, output: Path) -> None:
    """Measure steps at 10 to 1,000 classes and 1,000 to 1,000,000 latents (takes 4 GB)."""
    from benchmarks import growth
    from benchmarks.results import measure_once
    from benchmarks.runner import open_bundles

    settings = make_settings(Path(), output, bundle=bundle)

    def measure() -> growth.Row:
        sizes = growth.QUICK if quick else growth.FULL
        opened = open_bundles(settings, click.echo)[0]
        return growth.grow(opened, settings.config, click.echo, sizes)

    key = {**settings.key(), "quick": quick}
    click.echo(measure_once(output, "growth", key, measure, growth.markdown, again=again))
