"""`plr-edge repair`: save what is whole of a damaged state."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("repair")
@click.argument("state", type=click.Path(path_type=Path))
def command(state: Path) -> None:
    """Build the database of STATE anew from the rows and files that are still whole."""
    from plr_edge.store import repair

    saved = repair(state)
    click.echo(
        f"{saved['labels']} labels, {saved['latents']} latents and {saved['generations']} "
        f"generations saved; {saved['labels_lost']} labels lost"
    )
