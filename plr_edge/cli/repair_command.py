"""`plr-edge repair`: rebuild a damaged state from the parts that are whole."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("repair")
@click.argument("state", type=click.Path(path_type=Path))
def command(state: Path) -> None:
    """Rebuild the database of a damaged state.

    The new database has the rows and files of STATE that are intact. A state without damage is not
    changed. The damaged database is kept beside the new one. While a robot uses the state, it is
    only examined.
    """
    from plr_edge.cli.client import answer
    from plr_edge.cli.running import robot_of
    from plr_edge.errors import StateError
    from plr_edge.store import repair

    robot = robot_of(state)
    if robot is not None:
        found = answer(robot, "GET", "/repair")
        if not found["whole"]:
            raise StateError(
                f"{state} is damaged ({'; '.join(found['damage'])[:300]}), and a robot uses it; "
                "stop it and repair again"
            )
        click.echo(f"{state} is whole, and a robot uses it; nothing was changed")
        return
    saved = repair(state)
    if not saved.changed:
        click.echo(f"{state} is whole; nothing was changed")
        return
    click.echo(
        f"{saved.labels} labels, {saved.latents} latents and {saved.generations} generations "
        f"saved; {saved.labels_lost} labels lost"
    )
