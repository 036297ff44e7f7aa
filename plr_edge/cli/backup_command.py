"""`plr-edge backup`: a copy of a state, also while a robot uses it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("backup")
@click.argument("state", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def command(state: Path, target: Path) -> None:
    """Copy STATE to TARGET, also while a robot uses it.

    The copy is verified, and holds every label that was acknowledged before the command. Tokens are
    left out: a robot that starts with the copy makes its own.
    """
    from plr_edge.store import back_up

    report = back_up(state, target)
    click.echo(
        f"{target} holds {report.labels} labels and {report.generations} generations, "
        f"{report.n_bytes / 1e6:.1f} MB"
    )
