"""`plr-edge bench fleet`: robots that tell each other what they know."""

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
@click.option("--memory", default="8MB", show_default=True, help="Bytes for rehearsal.")
@click.option("--markdown", type=click.Path(path_type=Path),
              help="Put the table into this file, between its marks.")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results and caches go.")  # fmt: skip
def command(
    data: Path, dataset: str, frames: int, robots: int, seeds: int, memory: str,
    markdown: Path | None, output: Path,
) -> None:  # fmt: skip
    """Simulate robots that saw different classes and exchange statistics, latents or weights."""
    from plr_edge.bench import fleet, fleet_report
    from plr_edge.bench.compare import make_one
    from plr_edge.bench.compare_report import put_between_marks
    from plr_edge.bench.scenarios import Scenario
    from plr_edge.config import AdaptConfig, parse_bytes

    rows: list[fleet.Row] = []
    for seed in range(seeds):
        scenario = Scenario(dataset=dataset, per_class=frames)
        task = make_one(scenario, seed, data, output, click.echo)
        config = AdaptConfig(memory_bytes=parse_bytes(memory), seed=seed)
        rows += fleet.run_fleets(task, robots, config, click.echo)
        what = f"{dataset} x {frames}, {robots} robots, {seed + 1} seed{'s' * (seed > 0)}"
        fleet_report.write_results(output, what, rows)
    table = fleet_report.markdown(rows, what)
    if markdown:
        put_between_marks(markdown, "fleet", table)
    click.echo(table)
