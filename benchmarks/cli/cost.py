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
    from benchmarks.results import Rows, write_results

    kept = Rows(output / "cost.jsonl", {"quick": quick}, again=again)
    if not kept.rows:
        kept.add(cost.measure(output, click.echo, quick=quick))
    text = cost.markdown(kept.rows[0])
    write_results(output, "cost", kept.rows, text)
    click.echo(text)
