"""`python -m benchmarks unknown`: are frames of classes never taught told from the others?"""

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


@click.command("unknown")
@data_option
@click.option("--quick", is_flag=True, help="Run two small streams, one seed.")
@click.option("--main", is_flag=True, help="Run the five main streams only.")
@click.option("--dataset", "datasets", multiple=True,
              help="Run the streams of this data set only; may be repeated.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1),
              help="Seeds.  [default: three of the main streams, one of others]")  # fmt: skip
@bundle_option
@memory_option
@jobs_option
@again_option
@output_option
def command(
    data: Path, quick: bool, main: bool, datasets: tuple[str, ...], seeds: int | None,
    bundle: Path | None, memory: str, jobs: int, again: bool, output: Path,
) -> None:  # fmt: skip
    """Hold every fifth class back, and see whether its frames are answered with `unknown`.

    Measures the confidence of the answers too. Writes unknown.json, .csv, .md and .html into the
    output folder. A run that was stopped continues where it was.
    """
    from benchmarks import unknown, unknown_report

    listed = unknown.QUICK if quick else unknown.MAIN if main else unknown.FULL
    chosen = of_data_sets(listed, datasets)
    settings = make_settings(data, output, memory=memory, bundle=bundle)
    rows = unknown.run_streams(
        chosen, seeds or (1 if quick else None), settings, jobs=jobs, say=click.echo, again=again
    )
    click.echo(unknown_report.write(output, rows))
