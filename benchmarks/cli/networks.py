"""`python -m benchmarks networks`: networks of others through export, adapt and predict."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import again_option, output_option


@click.command("networks")
@click.option("--network", "names", multiple=True, show_default="all of the table",
              help="What --backbone of the export takes; may be repeated.")  # fmt: skip
@click.option("--option", "options", multiple=True,
              help="A further option of the export, such as --input-size=96.")  # fmt: skip
@again_option
@output_option
def command(names: tuple[str, ...], options: tuple[str, ...], again: bool, output: Path) -> None:
    """Export each network in each precision, adapt, and predict. Resumes where it was stopped."""
    from benchmarks import networks
    from benchmarks.results import Rows, write_results

    wanted = names or networks.NETWORKS
    kept = Rows(output / "networks.jsonl", list(options), again=again)
    rows = kept.measured(
        "network", wanted, lambda name: networks.measure(name, options, output, click.echo)
    )
    text = networks.markdown(rows)
    write_results(output, "networks", rows, text)
    click.echo(text)
