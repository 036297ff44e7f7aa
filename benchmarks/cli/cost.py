"""`python -m benchmarks cost`: what the commands themselves take."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import again_option, output_option


@click.command("cost")
@click.option("--quick", is_flag=True, help="Run the quick form of the demo, and `adapt` once.")
@again_option
@output_option
def command(quick: bool, again: bool, output: Path) -> None:
    """Run the demo, `adapt` and `--help` as a user does, and collect their times and memory."""
    from benchmarks import cost
    from benchmarks.results import measure_once

    def measure() -> cost.Row:
        return cost.measure(output, click.echo, quick=quick)

    key = {"quick": quick}
    click.echo(measure_once(output, "cost", key, measure, cost.markdown, again=again))
