"""`plr-edge demo`: the main job on the embedded stream."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import needs_extras


@click.command("demo")
@click.option(
    "-o",
    "--output",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory for bundle, state and report.",
)
@click.option("--quick", is_flag=True, help="Fewer classes, shorter measurements.")
@needs_extras("export", "report")
def command(output: Path, quick: bool) -> None:
    """Export, adapt, predict and profile on the embedded stream; leave report.html."""
    from plr_edge.demo import run_demo

    run_demo(output, quick=quick, say=click.echo)
