"""`plr-edge quarantine`: decide about labels that look like mistakes."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import printable


@click.command("quarantine")
@click.argument("state", type=click.Path(path_type=Path))
@click.option("--confirm", multiple=True, metavar="LABEL", help="Learn it after all; or `all`.")
@click.option("--drop", multiple=True, metavar="LABEL", help="Drop it; or `all`.")
def command(state: Path, confirm: tuple[str, ...], drop: tuple[str, ...]) -> None:
    """List the quarantined labels of STATE, confirm or drop them.

    What is confirmed is learned when the state is next used to adapt.
    """
    from plr_edge.errors import ConfigError
    from plr_edge.store import QUARANTINED, UNDONE, opened_for_reading

    with opened_for_reading(state) as store:
        held = {str(label.seq): label for label in store.labels.read(status=QUARANTINED)}
        for seq in [*confirm, *drop]:
            if seq != "all" and seq not in held:
                raise ConfigError(
                    f"label {seq[:20]} is not quarantined; there are {', '.join(held) or 'none'}"
                )
        sure = list(held) if "all" in confirm else list(confirm)
        wrong = [s for s in (held if "all" in drop else drop) if s not in sure]
        if sure:
            n_confirmed = len(store.confirm([int(s) for s in sure]))
            click.echo(f"{n_confirmed} confirmed")
            if n_confirmed < len(sure):
                click.echo(
                    f"{len(sure) - n_confirmed} cannot be learned: their latents were let go; "
                    "drop them",
                    err=True,
                )
        if wrong:
            click.echo(f"{len(store.mark([int(s) for s in wrong], UNDONE, 'dropped'))} dropped")
    if not confirm and not drop:
        for label in held.values():
            text = f"{label.name}  looks like {label.predicted}  {label.source}"
            click.echo(f"{label.seq:>6}  {printable(text)}")
        click.echo(f"{len(held)} quarantined", err=True)
