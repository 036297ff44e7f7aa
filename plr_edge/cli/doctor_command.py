"""`plr-edge doctor`: what this machine has, what is broken, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from plr_edge.doctor.base import Finding

_STYLES: dict[str, dict[str, Any]] = {
    "ok": {"fg": "green"},
    "advice": {"fg": "yellow"},
    "broken": {"fg": "red", "bold": True},
    "absent": {"dim": True},
}


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
    """Print a line for each check, and below them the commands that mend, to be copied."""
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
    for name, title in (("broken", "To mend what is broken:"), ("advice", "Advice:"),
                        ("absent", "If it is wanted:")):  # fmt: skip
        mends = [one for one in findings if one.status == name and one.mend]
        if mends:
            click.secho(f"\n{title}", **_STYLES[name])
        for one in mends:
            click.echo(f"  {one.name}: {one.mend}")
