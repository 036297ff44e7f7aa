"""`plr-edge log`: labels and events of a state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import printable
from plr_edge.cli.values import Whole


@click.command("log")
@click.argument("state", type=click.Path(path_type=Path))
@click.option(
    "--last",
    default=50,
    show_default=True,
    type=Whole(),
    help="Lines to show.",
)
@click.option("--quarantined", is_flag=True, help="Show only quarantined labels.")
@click.option("--events", "only_events", is_flag=True, help="Show only events, e.g. generations.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(state: Path, last: int, quarantined: bool, only_events: bool, as_json: bool) -> None:
    """List the labels and generations of a state.

    Prints each label of STATE with its time and source. Where the clock of the machine jumped, the
    times before are corrected, and an event says so. If a robot uses the state, it is asked.
    """
    import json
    from datetime import datetime

    from plr_edge.cli.running import asked_or_opened
    from plr_edge.store.listing import entries

    found: list[dict[str, Any]] = asked_or_opened(
        state,
        f"/log?last={last}&quarantined={quarantined}&events={only_events}",
        lambda store: entries(store, last, quarantined=quarantined, only_events=only_events),
    )
    for entry in found:
        if as_json:
            click.echo(json.dumps(entry))
            continue
        when = datetime.fromtimestamp(entry["time_ns"] / 1e9).strftime("%Y-%m-%d %H:%M:%S")
        text = printable(entry["text"])[:140] if "text" in entry else _of_label(entry)
        click.echo(f"{when}  {entry['kind']:<11}  {text}")


def _of_label(entry: dict[str, Any]) -> str:
    """Return the line of a label. Names are whole and as a shell reads them, to be pasted."""
    from plr_edge.cli.options import for_shell

    line = f"{entry['label']:>6}  {for_shell(entry['class'])}  "
    answered = f"(answered {for_shell(entry['predicted'])})  "
    return line + answered + printable(entry["source"])[: max(140 - len(line + answered), 20)]
