"""`plr-edge rollback`: back to the generation before the newest."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("rollback")
@click.argument("state", type=click.Path(path_type=Path))
def command(state: Path) -> None:
    """Go back one generation.

    The generation of STATE before the newest becomes the current one. Labels taught after it are
    undone.
    """
    from plr_edge.store import opened_for_reading

    with opened_for_reading(state) as store:
        n_undone = store.rollback()
        number = list(store.generations)[-1].number
    labels = (
        "1 label taught after it is" if n_undone == 1 else f"{n_undone} labels taught after it are"
    )
    click.echo(f"back to generation {number}; {labels} undone")
