"""`plr-edge doctor`: what this machine has, what is broken, and the command that fixes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plr_edge.cli.options import json_option

if TYPE_CHECKING:
    from plr_edge.doctor.base import Finding

_STYLES: dict[str, dict[str, Any]] = {
    "ok": {"fg": "green"},
    "advice": {"fg": "yellow"},
    "broken": {"fg": "red", "bold": True},
    "absent": {"dim": True},
}
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

    from plr_edge.doctor.base import BROKEN
    from plr_edge.doctor.examine import examine

    findings = examine(bundle, state)
    n_broken = sum(finding.status == BROKEN for finding in findings)
    if as_json:
        report = {"n_broken": n_broken, "findings": [finding.to_dict() for finding in findings]}
        click.echo(json.dumps(report, indent=1))
    else:
        print_findings(findings)
    context.exit(1 if n_broken else 0)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table of findings, then the commands that fix them, ready to be copied."""
    import shutil
    import sys
    import textwrap

    indent = max(len(one.name) for one in findings) + 2
    status_width = max(map(len, _STYLES)) + 2
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    width = max(columns - indent - status_width, 40)
    for one in findings:
        status = click.style(one.status.ljust(status_width), **_STYLES[one.status])
        first, *rest = textwrap.wrap(one.found, width, break_on_hyphens=False) or [""]
        click.echo(f"{one.name:<{indent}}{status}{first}")
        for line in rest:
            click.echo(" " * (indent + status_width) + line)
    for name, title in _FIXES.items():
        fixes = [one for one in findings if one.status == name and one.fix]
        if fixes:
            click.secho(f"\n{title}", **_STYLES[name])
        for one in fixes:
            click.echo(f"  {one.name}: {one.fix}")
