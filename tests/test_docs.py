"""What the documentation names exists."""

import re
from pathlib import Path

import click
import pytest

from benchmarks import pages
from benchmarks.cli import command as bench_command
from benchmarks.suites import SUITES
from plr_edge.cli import _COMMANDS, cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
TEXT = "\n".join(file.read_text() for file in PAGES)
BENCHES = [
    bench_command.get_command(click.Context(bench_command), name)
    for name in bench_command.list_commands(click.Context(bench_command))
]


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_and_option_has_help(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_options_and_protocols_that_are_named_exist():
    known = {
        option
        for name in _COMMANDS
        for command in [*_with_subcommands(cli.get_command(click.Context(cli), name)), *BENCHES]
        for parameter in command.params
        for option in parameter.opts
    }
    others = {"--system-site-packages", "--version", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", TEXT)) <= known | others
    benches = set(re.findall(r"python -m benchmarks ([a-z0-9-]+)", TEXT))
    assert benches <= {command.name for command in BENCHES}


def _with_subcommands(command):
    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    return [command.get_command(context, name) for name in command.list_commands(context)]


@pytest.mark.parametrize("name", ["streams", "generated"])
def test_rows_of_the_results_are_methods(name):
    part = pages.parts(ROOT / "benchmarks" / "results.md")[name]
    first = part[part.index("### ") :].split("### ")[1]
    rows = re.findall(r"^\| (?:\* )?([^|]+?)(?: \(\d seeds?\))? \|", first, flags=re.MULTILINE)
    variants = {row for row in rows if row.endswith(", no fast")}
    assert set(rows) - {"method", "---"} - variants == set(SUITES[name].methods)


def test_files_that_are_linked_exist():
    for file in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", file.read_text()):
            assert (file.parent / target).exists(), target
