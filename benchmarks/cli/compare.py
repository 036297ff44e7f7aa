"""`python -m benchmarks compare`: every method on every stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def _frames(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    if not all(value == "all" or (value.isdecimal() and int(value)) for value in values):
        raise click.BadParameter("give a number, or all")
    return tuple(None if value == "all" else int(value) for value in values)


@click.command("compare")
@click.option("--data", default="packs", show_default=True, type=click.Path(path_type=Path),
              help="Folder of packs.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Few streams, few frames, one seed, no slow method.")
@click.option("--dataset", "datasets", multiple=True,
              help="Only this one, or a folder of class/image; may be repeated.")  # fmt: skip
@click.option("--order", "orders", multiple=True,
              help="classes, iid, blocks or 'long tail'; may be repeated.")  # fmt: skip
@click.option("--frames", multiple=True, callback=_frames,
              help="Taught of each class, or all; may be repeated.")  # fmt: skip
@click.option("--experiences", type=click.IntRange(0),
              help="Of new classes; 0 for a class at a time.  [default: 10]")  # fmt: skip
@click.option("--noise", "noises", multiple=True, type=click.FloatRange(0, 1),
              help="Share of wrong labels; may be repeated.")  # fmt: skip
@click.option("--method", "methods", multiple=True, help="Only these; may be repeated.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--tune", is_flag=True, help="First choose every method's setting on seed 99.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1),
              help="Processes at a time; more than free cores spoils the seconds.")  # fmt: skip
@click.option("--cluster", is_flag=True, help="Run on a Ray cluster.")
@click.option("--memory", default="8MB", show_default=True, help="Bytes for rehearsal.")
@click.option("--markdown", type=click.Path(path_type=Path),
              help="Put the tables into this file, between its marks.")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results and caches go.")  # fmt: skip
def command(
    data: Path, quick: bool, datasets: tuple[str, ...], orders: tuple[str, ...],
    frames: tuple[int | None, ...], experiences: int | None, noises: tuple[float, ...],
    methods: tuple[str, ...], seeds: int, tune: bool, jobs: int, cluster: bool, memory: str,
    markdown: Path | None, output: Path,
) -> None:  # fmt: skip
    """Run every method on every stream; writes JSON, CSV, Markdown and a page; resumes.

    Without --dataset, --order, --frames, --experiences and --noise, the streams are those of
    benchmarks/results.md; with one of the last four, or a folder, all their combinations.
    """
    from benchmarks import compare, compare_report, scenarios
    from benchmarks.contenders import SLOW, contenders
    from plr_edge.config import LearningConfig, parse_bytes
    from plr_edge.errors import ConfigError

    known = tuple(contenders())
    for name in methods:
        if name not in known:
            raise ConfigError(f"no method {name!r}; there are {', '.join(known)}")
    wanted = scenarios.choose(quick, datasets, orders, frames, experiences, noises)
    config = LearningConfig(memory_bytes=parse_bytes(memory))
    backend = "ray" if cluster else "loky"
    if tune:
        compare.tune(data=data, output=output, config=config, jobs=jobs, say=click.echo,
                     backend=backend)  # fmt: skip
    every = tuple(name for name in known if not (quick and name in SLOW))
    rows = compare.run_grid(
        wanted, methods or every, range(1 if quick else seeds), data=data, output=output,
        config=config, jobs=jobs, say=click.echo, backend=backend,
    )  # fmt: skip
    compare_report.write_results(output, rows, compare.describe_run())
    if markdown:
        compare_report.put_between_marks(markdown, "compare", compare_report.markdown(rows))
    click.echo(compare_report.markdown(rows))
