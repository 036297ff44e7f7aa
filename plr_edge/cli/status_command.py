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
    from plr_edge.errors import ConfigError

    health = json.loads(ask(listen, "GET", "/health", good=(200, 503)).read())
    if "state" not in health:  # 503 of a robot that has too much to do
        raise ConfigError(f"refused: {health.get('detail')}", can_pass=True)
    if as_json:
        click.echo(json.dumps(health))
        return
    print_facts(health)
