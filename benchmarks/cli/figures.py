"""`python -m benchmarks figures`: every figure that the pages quote."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import data_option, jobs_option, output_option, weights_option


@click.command("figures")
@click.option("--only", multiple=True, help="Part or benchmark to make; may be repeated.")
@click.option("--quick", is_flag=True, help="Run the quick forms; leave the pages as they are.")
@click.option("--check", is_flag=True, help="Check the pages without running anything.")
@click.option("--list", "as_list", is_flag=True, help="List the parts and what makes them.")
@data_option
@weights_option
@jobs_option
@output_option
def command(
    only: tuple[str, ...], quick: bool, check: bool, as_list: bool, data: Path,
    weights: Path | None, jobs: int, output: Path,
) -> None:  # fmt: skip
    """Run the benchmarks whose figures README.md and results.md quote, and fill these pages.

    The full forms take about a day. A run that was stopped continues where it was.
    """
    from benchmarks import figures
    from plr_edge.errors import ConfigError

    if as_list:
        for part in figures.PARTS:
            minutes = sum(figures.COMMANDS[name].minutes for name in part.commands)
            commands = ", ".join(part.commands)
            click.echo(f"{part.page:<24} {part.name:<12} {commands:<24} {minutes:>5} minutes")
        return
    if check:
        problems = figures.check_pages()
        click.echo("\n".join(problems) or "every figure stands in a part that a command fills")
        raise click.exceptions.Exit(1 if problems else 0)
    names = {part.name: part.commands for part in figures.PARTS}
    names |= {name: (name,) for name in figures.COMMANDS}
    for name in only:
        if name not in names:
            raise ConfigError(f"no part {name!r}; there are {', '.join(names)}")
    wanted = {command for name in only or names for command in names[name]}
    output = output / "quick" if quick else output
    places = {"--data": data, "--weights": weights, "--output": output, "--jobs": jobs}
    for name in figures.COMMANDS:
        if name in wanted:
            figures.run_command(name, places, quick=quick)
    if quick:
        click.echo(f"{output} holds the results; the pages are as they were")
        return
    filled = figures.fill_pages(output, only)
    click.echo(f"filled: {', '.join(filled) or 'nothing'}")
