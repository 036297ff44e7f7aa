"""`plr-edge rollback`: back to the generation before the newest."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("rollback")
@click.argument("state", type=click.Path(path_type=Path))
def command(state: Path) -> None:
    """Go back one generation.

    The generation of STATE before the newest becomes the current one. Labels taught after it are
    undone. If a robot uses the state, it is asked to do so.
    """
    from plr_edge.cli.running import changed
    from plr_edge.store import opened_for_reading

    done = changed(state, "/rollback", {})
    if done is not None:
        n_undone, where = done["undone"], "to the generation before"
    else:
        with opened_for_reading(state) as store:
            n_undone = store.rollback()
            where = f"to generation {list(store.generations)[-1].number}"
    labels = (
        "1 label taught after it is" if n_undone == 1 else f"{n_undone} labels taught after it are"
    )
    click.echo(f"back {where}; {labels} undone")
