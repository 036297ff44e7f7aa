"""`plr-edge status`: how a running robot is."""

from __future__ import annotations

import click

from plr_edge.cli.options import listen_option


@click.command("status")
@listen_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def command(listen: str, as_json: bool) -> None:
    """Print the state of a running `plr-edge run`."""
    import json

    from plr_edge.cli.client import ask

    facts = json.loads(ask(listen, "GET", "/health").read())
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name:>20}  {'absent' if value is None else value}")
