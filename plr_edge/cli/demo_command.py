"""`plr-edge demo`: the main workflow on the embedded stream."""

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
    help="Directory for the bundle, the learned state and the report.",
)
@click.option("--quick", is_flag=True, help="Use fewer classes and shorter measurements.")
@needs_extras("export", "report")
def command(output: Path, quick: bool) -> None:
    """Try everything on the embedded images.

    Exports a network, learns twelve objects one after another, predicts held-out images, profiles
    the machine, and writes report.html.
    """
    from plr_edge.demo import run_demo

    run_demo(output, quick=quick, say=click.echo)
