"""`plr-edge status`: the health of a running robot."""

from __future__ import annotations

import click

from plr_edge.cli.options import json_option, listen_option


@click.command("status")
@listen_option
@json_option
def command(listen: str, as_json: bool) -> None:
    """Print the health of a running robot."""
    import json

    from plr_edge.cli.client import ask
    from plr_edge.cli.facts import print_facts

    health = json.loads(ask(listen, "GET", "/health").read())
    if as_json:
        click.echo(json.dumps(health))
        return
    print_facts(health)
