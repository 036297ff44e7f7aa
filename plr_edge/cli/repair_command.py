"""`plr-edge repair`: rebuild a damaged state from the parts that are whole."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("repair")
@click.argument("state", type=click.Path(path_type=Path))
def command(state: Path) -> None:
    """Rebuild the database of a damaged state.

    The new database has the rows and files of STATE that are intact. A state without damage is not
    changed. The damaged database is kept beside the new one.
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
