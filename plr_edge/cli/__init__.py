"""The command line: one file per command. Each imports the library only when it runs."""

from __future__ import annotations

import importlib
from typing import Any

import click

from plr_edge.cli.values import refuse_empty
from plr_edge.errors import PlrEdgeError

_SECTIONS = {
    "First steps": ("demo", "doctor"),
    "Make a bundle": ("export", "verify", "build-engine"),
    "Learn and predict": ("adapt", "consolidate", "predict"),
    "Run a robot": ("run", "teach", "status", "watch", "token"),
    "Inspect and correct learned state": (
        "inspect", "log", "undo", "rollback", "forget", "quarantine", "repair", "backup", "restore",
    ),
    "Measure and plan": ("profile", "plan", "schedule"),
}  # fmt: skip
_COMMANDS = tuple(name for names in _SECTIONS.values() for name in names)


_CANNOT_PASS, _CAN_PASS = 2, 75  # 75 is EX_TEMPFAIL of sysexits.h


class _UserError(click.ClickException):
    """An error caused by a user, a file or a board: one line.

    Attributes:
        exit_code: 75 if the same may succeed later, although nobody corrects anything, otherwise 2.
    """

    def __init__(self, message: str, can_pass: bool = False) -> None:
        super().__init__(message)
        self.exit_code = _CAN_PASS if can_pass else _CANNOT_PASS


def _one_line(error: click.UsageError, path: str) -> _UserError:
    """Return what click says in several lines as one.

    Args:
        error: what click says.
        path: the command, as it is called.
    """
    text = " ".join(error.format_message().split()).rstrip(".")
    return _UserError(f"{text}; `{path} --help` explains the options")


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            refuse_empty(command, rest)
        return name, command, rest

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise _one_line(error, str(info_name)) from None
        except BrokenPipeError:  # while printing help
            _end_as_by_sigpipe()
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlrEdgeError as error:
            raise _UserError(str(error), error.can_pass) from error
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            name = "" if ctx.invoked_subcommand is None else f" {ctx.invoked_subcommand}"
            raise _one_line(error, ctx.command_path + name) from None
        except BrokenPipeError:
            _end_as_by_sigpipe()
            raise


def _end_as_by_sigpipe() -> None:
    """End this process as other tools end when nobody reads their output any more."""
    import os
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="plr-edge")
def cli() -> None:
    """A robot learns new classes in the field, on the board it carries."""
