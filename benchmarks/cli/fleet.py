"""`python -m benchmarks fleet`: robots that tell each other what they know."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("fleet")
@click.option("--data", default="packs", show_default=True, type=click.Path(path_type=Path),
              help="Folder of packs.")  # fmt: skip
@click.option("--dataset", default="cifar100", show_default=True,
              help="A data set of `bench compare`, or a folder of class/image.")  # fmt: skip
@click.option("--frames", default=40, show_default=True, type=click.IntRange(2),
              help="Of each class, shared out among the robots that see it.")  # fmt: skip
@click.option("--robots", default=4, show_default=True, type=click.IntRange(2), help="How many.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1),
              help="Processes at a time.")  # fmt: skip
@click.option("--memory", default="8MB", show_default=True, help="Bytes for rehearsal.")
@click.option("--markdown", type=click.Path(path_type=Path),
              help="Put the table into this file, between its marks.")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results and caches go.")  # fmt: skip
def command(
    data: Path, dataset: str, frames: int, robots: int, seeds: int, jobs: int,
    memory: str, markdown: Path | None, output: Path,
) -> None:  # fmt: skip
    """Simulate robots that saw different classes and exchange statistics, latents or weights.

    Resumes where it stopped.
    """
    from benchmarks import fleet_report, fleet_runs
    from benchmarks.compare_report import put_between_marks
    from benchmarks.scenarios import Scenario
    from plr_edge.config import LearningConfig, parse_bytes

    rows = fleet_runs.run_fleets(
        Scenario(dataset=dataset, per_class=frames), robots, seeds, data=data, output=output,
        config=LearningConfig(memory_bytes=parse_bytes(memory)), jobs=jobs, say=click.echo,
    )  # fmt: skip
    what = f"{dataset} x {frames}, {robots} robots, {seeds} seed{'s' * (seeds > 1)}"
    table = fleet_report.markdown(rows, what)
    if markdown:
        put_between_marks(markdown, "fleet", table)
    click.echo(table)
