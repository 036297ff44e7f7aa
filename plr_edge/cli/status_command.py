"""`plr-edge status`: the health of a running robot."""

from __future__ import annotations

from typing import Any

import click

from plr_edge.cli.options import json_option, optional_state_option, robot_options


@click.command("status")
@optional_state_option
@robot_options
@json_option
def command(as_json: bool, **target: Any) -> None:
    """Print the health of a running robot."""
    import json

    from plr_edge.cli.client import Target, answer
    from plr_edge.cli.facts import print_facts
    from plr_edge.errors import ConfigError

    health = answer(Target(**target), "GET", "/health", good=(200, 503))
    if "state" not in health:  # 503 of a robot that has too much to do
        raise ConfigError(f"refused: {health.get('detail')}", can_pass=True)
    if as_json:
        click.echo(json.dumps(health))
        return
    print_facts(health)
