"""`python -m benchmarks fleet`: robots that exchange what they know."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import (
    again_option,
    data_option,
    jobs_option,
    make_settings,
    memory_option,
    output_option,
)


@click.command("fleet")
@data_option
@click.option("--dataset", default="cifar100", show_default=True,
              help="Data set, or a folder of class/image.")  # fmt: skip
@click.option("--frames", default=40, show_default=True, type=click.IntRange(2),
              help="Frames of each class, divided among the robots that see it.")  # fmt: skip
@click.option("--robots", default=4, show_default=True, type=click.IntRange(2),
              help="Number of robots.")  # fmt: skip
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1),
              help="Number of seeds.")  # fmt: skip
@jobs_option
@memory_option
@again_option
@output_option
def command(
    data: Path, dataset: str, frames: int, robots: int, seeds: int, jobs: int, memory: str,
    again: bool, output: Path,
) -> None:  # fmt: skip
    """Simulate robots that saw different classes and exchange statistics, latents or weights.

    A run that was stopped continues where it was.
    """
    from benchmarks import fleet_runs
    from benchmarks.scenarios import Scenario

    scenario = Scenario(dataset=dataset, per_class=frames)
    settings = make_settings(data, output, memory)
    rows = fleet_runs.run_fleets(
        scenario, robots, seeds, settings, jobs=jobs, say=click.echo, again=again
    )
    click.echo(fleet_runs.markdown(rows))
