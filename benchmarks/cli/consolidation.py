"""`python -m benchmarks consolidation`: which blocks to train, how much, at which resolution?"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import (
    again_option,
    bundle_option,
    data_option,
    jobs_option,
    make_settings,
    memory_option,
    of_data_sets,
    output_option,
)


@click.command("consolidation")
@data_option
@click.option("--quick", is_flag=True, help="Run one small stream, one seed.")
@click.option("--grid", type=click.Choice(["schedules", "resolutions", "both"]), default="both",
              show_default=True, help="What to compare.")  # fmt: skip
@click.option("--dataset", "datasets", multiple=True,
              help="Run the streams of this data set only; may be repeated.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Seeds.")
@bundle_option
@memory_option
@jobs_option
@again_option
@output_option
def command(
    data: Path, quick: bool, grid: str, datasets: tuple[str, ...], seeds: int,
    bundle: Path | None, memory: str, jobs: int, again: bool, output: Path,
) -> None:  # fmt: skip
    """Train the blocks at the end of a stream, in every way worth comparing.

    A bundle has one cut and one input size; run the command once for each bundle to compare them.
    Writes consolidation.json, .csv, .md and .html into the output folder. A run that was stopped
    continues where it was.
    """
    from benchmarks import consolidation, consolidation_report

    listed = consolidation.QUICK if quick else consolidation.MAIN
    chosen = of_data_sets(listed, datasets)
    settings = make_settings(data, output, memory=memory, bundle=bundle)
    size = settings.config.memory_bytes
    groups: list[consolidation.Group] = []
    if grid != "resolutions":
        groups += consolidation.schedules(size, seeds, chosen)
    if grid != "schedules":
        groups += consolidation.resolutions(size, seeds, chosen)
    rows = consolidation.run_groups(groups, settings, jobs=jobs, say=click.echo, again=again)
    click.echo(consolidation_report.write(output, rows))
