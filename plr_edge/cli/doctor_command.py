"""`plr-edge doctor`: what this machine has, what is broken, and the command that fixes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from plr_edge.cli.options import json_option

if TYPE_CHECKING:
    from plr_edge.doctor.base import Finding

_STYLES = {"ok": "green", "advice": "yellow", "broken": "bold red", "absent": "dim"}
_FIXES = {"broken": "How to fix what is broken:", "advice": "Advice:", "absent": "If you want it:"}


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Directory of the learned state, to be checked too.",
)
@json_option
@click.pass_context
def command(context: click.Context, bundle: Path | None, state: Path | None, as_json: bool) -> None:
    """Check this machine and print how to fix what is broken.

    Checks the board, JetPack, Python, packages, GPU, meters, memory and disk. With BUNDLE and
    --state, also checks that they are intact and run here. Changes nothing.

    The exit code is 1 if anything is broken. Advice and absent parts leave it at 0.
    """
    import json
    from dataclasses import asdict

    from plr_edge.doctor.base import BROKEN
    from plr_edge.doctor.examine import examine

    findings = examine(bundle, state)
    n_broken = sum(finding.status == BROKEN for finding in findings)
    if as_json:
        report = {"n_broken": n_broken, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(report, indent=1))
    else:
        print_findings(findings)
    context.exit(1 if n_broken else 0)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table of findings, then the commands that fix them, ready to be copied."""
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
    for status, title in _FIXES.items():
        fixes = [one for one in findings if one.status == status and one.mend]
        if fixes:
            console.print(f"\n{title}", style=_STYLES[status])
        for one in fixes:
            console.print(Text(f"  {one.name}: {one.mend}"), soft_wrap=True)
