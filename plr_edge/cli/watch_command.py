"""`plr-edge watch`: what a running robot sees, line by line."""

from __future__ import annotations

import click

from plr_edge.cli.options import listen_option


@click.command("watch")
@listen_option
def command(listen: str) -> None:
    """Print predictions and events of a running `plr-edge run` until Ctrl-C."""
    from plr_edge.cli.client import ask

    response, kind = ask(listen, "GET", "/events"), ""
    try:
        for line in response:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                kind = text[7:]
            elif text.startswith("data: "):
                click.echo(f"{kind:<12} {text[6:]}")
    except (OSError, KeyboardInterrupt):
        return
