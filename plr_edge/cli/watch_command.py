"""`plr-edge watch`: predictions and events of a running robot, line by line."""

from __future__ import annotations

import click

from plr_edge.cli.options import listen_option


@click.command("watch")
@listen_option
def command(listen: str) -> None:
    """Print predictions and events until Ctrl-C."""
    from plr_edge.cli.client import ask

    response, event = ask(listen, "GET", "/events"), ""
    try:
        for line in response:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event = text[7:]
            elif text.startswith("data: "):
                click.echo(f"{event:<12} {text[6:]}")
    except BrokenPipeError:  # nobody reads on
        raise
    except (OSError, KeyboardInterrupt):
        return
