"""`plr-edge doctor`: what this machine has, what is broken, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from plr_edge.doctor.base import Finding

_STYLES = {"ok": "green", "advice": "yellow", "broken": "bold red", "absent": "dim"}


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Directory of what is learned, to be checked, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_context
def command(context: click.Context, bundle: Path | None, state: Path | None, as_json: bool) -> None:
    """Say what this machine has, what is broken, and what mends it; exit code 1 if anything is.

    Board, JetPack, Python, packages, GPU, meters, memory, disk; with BUNDLE and --state, whether
    they are whole and run here. Nothing is changed. Advice, and what is absent, is exit code 0.
    """
    import json
    from dataclasses import asdict

    from plr_edge.doctor.base import BROKEN
    from plr_edge.doctor.examine import examine

    findings = examine(bundle, state)
    n_broken = sum(finding.status == BROKEN for finding in findings)
    if as_json:
        facts = {"n_broken": n_broken, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(facts, indent=1))
    else:
        print_findings(findings)
    context.exit(1 if n_broken else 0)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table, and below it, to be copied, what mends."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(show_edge=False, box=None, padding=(0, 2, 0, 0))
    for title in ("check", "", "found"):
        table.add_column(title, overflow="fold")
    for one in findings:
        table.add_row(Text(one.name), Text(one.status, _STYLES[one.status]), Text(one.found))
    console.print(table)
    for status, title in (("broken", "To mend what is broken:"), ("advice", "Advice:"),
                          ("absent", "If it is wanted:")):  # fmt: skip
        mends = [one for one in findings if one.status == status and one.mend]
        if mends:
            console.print(f"\n{title}", style=_STYLES[status])
        for one in mends:
            console.print(Text(f"  {one.name}: {one.mend}"), soft_wrap=True)
