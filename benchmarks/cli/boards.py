"""`python -m benchmarks boards`: the governor in closed loop with models of boards."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import output_option


@click.command("boards")
@output_option
def command(output: Path) -> None:
    """Simulate what the governor decides on four boards, and print the table."""
    import subprocess
    import sys

    from benchmarks.results import write_results

    script = Path(__file__).parents[2] / "tests" / "simulated_boards.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    write_results(output, "boards", [{"table": done.stdout.strip()}], done.stdout.strip())
    click.echo(done.stdout.strip())
