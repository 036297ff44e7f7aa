"""`plr-edge repair`: save what is whole of a damaged state."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("repair")
@click.argument("state", type=click.Path(path_type=Path))
def command(state: Path) -> None:
    """Build the database of STATE anew from the rows and files that are still whole.

    A state that is whole is left as it is. The damaged database is kept beside the new one.
    """
    from plr_edge.store import repair

    saved = repair(state)
    if not saved.changed:
        click.echo(f"{state} is whole; nothing was changed")
        return
    click.echo(
        f"{saved.labels} labels, {saved.latents} latents and {saved.generations} generations "
        f"saved; {saved.labels_lost} labels lost"
    )
