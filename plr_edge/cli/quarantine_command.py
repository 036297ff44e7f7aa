"""`plr-edge quarantine`: review labels that look like mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

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

    A robot that uses the state learns confirmed labels at once. Without one they are learned when
    the state is next used to adapt.
    """
    from plr_edge.cli.running import asked_or_opened, changed
    from plr_edge.store import MAX_LABELS
    from plr_edge.store.listing import entries

    if confirm or drop:
        right, wrong = _numbers(confirm), _numbers(drop)
        done = changed(state, "/quarantine", {"confirm": right, "drop": wrong})
        if done is None:
            done = _reviewed(state, right, wrong)
        if confirm:
            click.echo(f"{done['confirmed']} confirmed")
        if done["evicted"]:
            click.echo(
                f"{done['evicted']} cannot be learned: their latents were evicted or never kept; "
                "teach their frames again, or drop them",
                err=True,
            )
        if done["dropped"]:
            click.echo(f"{done['dropped']} dropped")
        return
    held: list[dict[str, Any]] = asked_or_opened(
        state, "/quarantine", lambda store: entries(store, MAX_LABELS, quarantined=True)
    )
    for entry in held:
        text = f"{entry['class']}  looks like {entry['predicted']}  {entry['source']}"
        click.echo(f"{entry['label']:>6}  {printable(text)}")
    click.echo(f"{len(held)} quarantined")


def _reviewed(
    state: Path, confirm: list[int] | Literal["all"], drop: list[int] | Literal["all"]
) -> dict[str, int]:
    """Review the labels of a state that no robot uses."""
    from plr_edge.runtime.corrections import review
    from plr_edge.store import opened_for_reading

    with opened_for_reading(state) as store:
        done = review(store, confirm=confirm, drop=drop)
    return {"confirmed": done.n_confirmed, "evicted": done.n_evicted, "dropped": done.n_dropped}


def _numbers(labels: tuple[str, ...]) -> list[int] | Literal["all"]:
    from plr_edge.errors import ConfigError

    if "all" in labels:
        return "all"
    for label in labels:
        if not label.isascii() or not label.isdigit():
            raise ConfigError(f"label {label[:20]!r} is not a number; `plr-edge log` shows them")
    return [int(label) for label in labels]
