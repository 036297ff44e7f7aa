"""`plr-edge schedule`: shares, reach and relative cost of each schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import json_option
from plr_edge.cli.values import Whole


@click.command("schedule")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--widths",
    help="Layer widths of a fully connected classifier instead of a bundle, "
    "from the input to the classes, e.g. 1024,2000,2000,100.",
)
@click.option(
    "--schedule",
    "names",
    multiple=True,
    help="Name or shares of a schedule to print.",
)
@click.option(
    "--rehearsed",
    default=256,
    show_default=True,
    type=Whole(),
    help="Rehearsed samples of a batch, to divide over the levels.",
)
@click.option(
    "--costs",
    type=click.Path(path_type=Path),
    help="Profile written by `plr-edge profile --json`, for `measured`.",
)
@json_option
def command(bundle: Path | None, widths: str | None, **options: Any) -> None:
    """Print the rehearsal schedules.

    For the levels of BUNDLE or of --widths, prints how each schedule divides the rehearsal over
    them, and what it costs.
    """
    import json

    from plr_edge.errors import ConfigError
    from plr_edge.replay.schedule import SCHEDULES, apportion, fully_connected, make_schedule

    if (bundle is None) == (widths is None):
        raise ConfigError("give either a bundle or --widths, e.g. 1024,2000,2000,100")
    if bundle is None and options["costs"] is not None:
        raise ConfigError("--costs are those of a bundle; give the bundle instead of --widths")
    step_costs = None
    if bundle is not None:
        from plr_edge.bundle.reading import open_bundle
        from plr_edge.profiling.profile import read_step_costs

        opened = open_bundle(bundle)
        levels = opened.levels
        if options["costs"] is not None:
            step_costs = read_step_costs(options["costs"], opened)
    else:
        levels = fully_connected(_widths(str(widths)))
    rows = []
    for name in options["names"] or [*SCHEDULES, *(["measured"] if step_costs else [])]:
        schedule = make_schedule(name, levels, step_costs)
        rows.append(
            {
                "schedule": name,
                "shares": list(schedule.shares),
                "reach": list(schedule.reach),
                "relative_cost": schedule.relative_cost([level.weights for level in levels]),
                "samples": apportion(schedule.shares, options["rehearsed"]),
            }
        )
    if options["as_json"]:
        click.echo(json.dumps({"levels": [level.name for level in levels], "schedules": rows}))
    else:
        _print(rows, [level.name for level in levels])


def _widths(text: str) -> list[int]:
    from plr_edge.errors import ConfigError

    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if len(widths) < 2 or min(widths) < 1:
        raise ConfigError(f"widths are {text[:60]!r}; write them like 1024,2000,2000,100")
    return widths


def _print(rows: list[dict[str, Any]], levels: list[str]) -> None:
    from plr_edge.cli.tables import print_table

    def numbers(values: list[float]) -> str:
        return " ".join(f"{x:.3f}".removeprefix("0") for x in values)

    texts = [
        {
            "schedule": row["schedule"],
            "share f": numbers(row["shares"]),
            "reach u": numbers(row["reach"]),
            "samples": " ".join(map(str, row["samples"])),
            "C(f)": f"{row['relative_cost']:.3f}",
        }
        for row in rows
    ]
    print_table(texts, title=f"levels {', '.join(levels)}", left=["schedule"])
