"""`plr-edge quarantine`: review labels that look like mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from plr_edge.cli.options import printable


@click.command("quarantine")
@click.argument("state", type=click.Path(path_type=Path))
@click.option("--confirm", multiple=True, metavar="LABEL",
              help="Learn this label after all; `all` for every one.")  # fmt: skip
@click.option("--drop", multiple=True, metavar="LABEL",
              help="Undo this label; `all` for every one.")  # fmt: skip
def command(state: Path, confirm: tuple[str, ...], drop: tuple[str, ...]) -> None:
    """List the quarantined labels of STATE, confirm or drop them.

    Confirmed labels are learned when the state is next used to adapt.
    """
    from plr_edge.runtime.corrections import review
    from plr_edge.store import QUARANTINED, opened_for_reading

    with opened_for_reading(state) as store:
        if confirm or drop:
            done = review(store, confirm=_numbers(confirm), drop=_numbers(drop))
            if confirm:
                click.echo(f"{done.n_confirmed} confirmed")
            if done.n_evicted:
                click.echo(
                    f"{done.n_evicted} cannot be learned: their latents were evicted or never "
                    "kept; teach their frames again, or drop them",
                    err=True,
                )
            if done.n_dropped:
                click.echo(f"{done.n_dropped} dropped")
            return
        held = list(store.labels.read(status=QUARANTINED))
    for label in held:
        text = f"{label.name}  looks like {label.predicted}  {label.source}"
        click.echo(f"{label.seq:>6}  {printable(text)}")
    click.echo(f"{len(held)} quarantined")


def _numbers(labels: tuple[str, ...]) -> list[int] | Literal["all"]:
    from plr_edge.errors import ConfigError

    if "all" in labels:
        return "all"
    for label in labels:
        if not label.isascii() or not label.isdigit():
            raise ConfigError(f"label {label[:20]!r} is not a number; `plr-edge log` shows them")
    return [int(label) for label in labels]
