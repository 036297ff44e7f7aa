"""The command line: one file per command. Each imports the library only when it runs."""

from __future__ import annotations

import importlib
from typing import Any

import click

from plr_edge.errors import PlrEdgeError

_SECTIONS = {
    "First steps": ("demo", "doctor"),
    "Make a bundle": ("export", "verify", "build-engine"),
    "Learn and predict": ("adapt", "consolidate", "predict"),
    "Run a robot": ("run", "teach", "status", "watch"),
    "Inspect and correct learned state": (
        "inspect", "log", "undo", "rollback", "forget", "quarantine", "repair",
    ),
    "Measure and plan": ("profile", "plan", "schedule"),
}  # fmt: skip
_COMMANDS = tuple(name for names in _SECTIONS.values() for name in names)


class _UserError(click.ClickException):
    """An error caused by a user, a file or a board: one line, exit code 2."""

    exit_code = 2


class _Group(click.Group):
    """Load a command's module when it is called, and print our errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in (*_COMMANDS, "bench"):  # `bench` prints where it went
            return None
        module = importlib.import_module(f"plr_edge.cli.{cmd_name.replace('-', '_')}_command")
        return module.command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in sections."""
        longest = max(map(len, _COMMANDS))
        limit = formatter.width - longest - 6
        for title, names in _SECTIONS.items():
            found = ((name, self.get_command(ctx, name)) for name in names)
            rows = [(n.ljust(longest), c.get_short_help_str(limit)) for n, c in found if c]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlrEdgeError as error:
            raise _UserError(str(error)) from error


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="plr-edge")
def cli() -> None:
    """A robot learns new classes in the field, on the board it carries."""
