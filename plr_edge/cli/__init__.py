"""The command line: one file a command; the library is imported inside each, to start fast."""

from __future__ import annotations

import importlib
from typing import Any

import click

from plr_edge.errors import PlrEdgeError

_COMMANDS = (
    "export", "adapt", "predict", "run", "teach", "status", "watch", "profile", "plan", "inspect",
    "log", "undo", "rollback", "forget", "quarantine", "repair", "build-engine", "verify",
    "schedule", "doctor", "demo",
)  # fmt: skip


class _UserError(click.ClickException):
    """Something that a user, a file or a board caused: one line, exit code 2."""

    exit_code = 2


class _Group(click.Group):
    """Load a command's module when it is called, and turn our errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in (*_COMMANDS, "bench"):  # `bench` says where it went
            return None
        module = importlib.import_module(f"plr_edge.cli.{cmd_name.replace('-', '_')}_command")
        return module.command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlrEdgeError as error:
            raise _UserError(str(error)) from error


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="plr-edge")
def cli() -> None:
    """A robot learns new classes in the field, on the board it carries."""
