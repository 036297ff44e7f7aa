"""`plr-edge rollback`: back to the generation before the newest."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("rollback")
@click.argument("state", type=click.Path(path_type=Path))
@click.option(
    "--exported", is_flag=True, help="Go back to the bundle as exported, and undo every label."
)
def command(state: Path, exported: bool) -> None:
    """Go back one generation.

    The generation of STATE before the newest becomes the current one, and before the first one that
    is the bundle as exported. Labels taught after it are undone. If a robot uses the state, it is
    asked to do so.
    """
    from plr_edge.cli.running import changed
    from plr_edge.store import opened_for_reading

    done = changed(state, "/rollback", {"exported": True} if exported else {})
    if done is not None:
        n_undone = done["undone"]
        where = "to the bundle as exported" if exported else "to the generation before"
    else:
        with opened_for_reading(state) as store:
            n_undone = store.rollback(exported=exported)
            kept = [info.number for info in store.generations]
            where = f"to generation {kept[-1]}" if kept else "to the bundle as exported"
    labels = (
        "1 label taught after it is" if n_undone == 1 else f"{n_undone} labels taught after it are"
    )
    click.echo(f"back {where}; {labels} undone")
