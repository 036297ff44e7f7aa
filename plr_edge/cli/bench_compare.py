"""`plr-edge bench compare`: every method on every stream."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("compare")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of packs.")
@click.option("--quick", is_flag=True, help="Six streams of few frames, one seed.")
@click.option("--dataset", "datasets", multiple=True, help="Only these; may be repeated.")
@click.option("--method", "methods", multiple=True, help="Only these; may be repeated.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--tune", is_flag=True, help="First choose every learning rate on seed 99.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1),
              help="Processes at a time; more than free cores spoils the seconds.")  # fmt: skip
@click.option("--cluster", is_flag=True, help="Run on a Ray cluster.")
@click.option("--memory", default="8MB", show_default=True, help="Bytes for rehearsal.")
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results and caches go.")  # fmt: skip
def command(
    data: Path, quick: bool, datasets: tuple[str, ...], methods: tuple[str, ...], seeds: int,
    tune: bool, jobs: int, cluster: bool, memory: str, output: Path,
) -> None:  # fmt: skip
    """Run every method on every stream; writes JSON, CSV, Markdown and a page; resumes."""
    from plr_edge.bench import compare, compare_report, scenarios
    from plr_edge.bench.contenders import contenders
    from plr_edge.config import AdaptConfig, parse_bytes
    from plr_edge.errors import ConfigError

    known = tuple(contenders())
    for name in methods:
        if name not in known:
            raise ConfigError(f"no method {name!r}; there are {', '.join(known)}")
    for name in datasets:
        if name not in scenarios.DATASETS:
            raise ConfigError(f"no data set {name!r}; there are {', '.join(scenarios.DATASETS)}")
    wanted = tuple(
        one for one in (compare.QUICK if quick else compare.FULL)
        if not datasets or one.dataset in datasets
    )  # fmt: skip
    config = AdaptConfig(memory_bytes=parse_bytes(memory))
    if tune:
        compare.tune(
            compare.TUNABLE, compare.QUICK[0], data=data, output=output, config=config,
            say=click.echo,
        )  # fmt: skip
    rows = compare.run_grid(
        wanted, methods or known, range(1 if quick else seeds), data=data, output=output,
        config=config, jobs=jobs, say=click.echo, backend="ray" if cluster else "loky",
    )  # fmt: skip
    compare_report.write_results(output, rows)
    click.echo(compare_report.markdown(rows))
