"""`plr-edge watch`: predictions and events of a running robot, line by line."""

from __future__ import annotations

from typing import Any

import click

from plr_edge.cli.options import optional_state_option, robot_options


@click.command("watch")
@optional_state_option
@robot_options
def command(**target: Any) -> None:
    """Print predictions and events until Ctrl-C.

    Every third prediction is printed. If the connection is lost, it is made again.
    """
    from plr_edge.cli.client import Target

    robot, tried = Target(**target), 0
    while True:
        try:
            heard = _print_events(robot)
        except KeyboardInterrupt:
            return
        tried = 0 if heard else tried + 1
        if not _come_again(tried):
            return


def _print_events(robot: Any) -> bool:
    """Print events until the connection ends. Return whether there were any."""
    from plr_edge.cli.client import ask

    response, event, heard = ask(robot, "GET", "/events"), "", False
    try:
        for line in response:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event, heard = text[7:], True
            elif text.startswith("data: "):
                click.echo(f"{event:<12} {text[6:]}")
    except BrokenPipeError:  # nobody reads on
        raise
    except OSError:
        pass
    return heard


def _come_again(tried: int) -> bool:
    """Wait before the next connection. Return False for Ctrl-C."""
    import time

    try:
        click.echo("the connection ended; connecting again", err=True)
        time.sleep(min(1.0 + tried, 5.0))
    except KeyboardInterrupt:
        return False
    return True
