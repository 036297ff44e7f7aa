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

    health = answer(Target(**target), "GET", "/health")
    if as_json:
        click.echo(json.dumps(health))
        return
    print_facts(health)
