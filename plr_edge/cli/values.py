"""Types of option values, checks of output files, and the refusal of empty values.

Numbers are finite and bounded, so that no command has to check this again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

LARGEST = 2**31 - 1
_MARKS = {"manifest.json": "bundle", "store.db": "state"}


class Whole(click.IntRange):
    """A whole number with a lower and an upper limit."""

    def __init__(self, min: int = 1, max: int = LARGEST) -> None:
        super().__init__(min, max)


class Number(click.FloatRange):
    """A number with limits that is neither NaN nor infinite."""

    def __init__(self, min: float, max: float) -> None:
        super().__init__(min, max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or refuse it."""
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number; it must be in {self.min:g}..{self.max:g}",
                      param, ctx)  # fmt: skip
        return super().convert(value, param, ctx)


def refuse_empty(command: click.Command, args: Sequence[str]) -> None:
    """Refuse an empty text as the value of an option or argument.

    It comes from a shell variable that is not set, and would pass for `not given`.

    Raises:
        UsageError: there is one.
    """
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    before = ""
    for argument in args:
        name, equals, value = argument.partition("=")
        if equals and name in names and not value.strip():
            raise click.UsageError(f"{name} is empty; give a value, or leave the option out")
        if not argument.strip() and before.startswith("-"):
            raise click.UsageError(f"{before} is empty; give a value, or leave the option out")
        if not argument.strip():
            raise click.UsageError("an argument is empty; give a value, or leave it out")
        before = argument


def check_outputs(suffixes: Sequence[str] = (), /, **paths: Path | None) -> None:
    """Refuse files that cannot be written or must not be replaced, before any work is done.

    Args:
        suffixes: allowed endings of the names, lower case. Empty allows all.
        paths: the files by the name of their option. None was not given.

    Raises:
        ConfigError: one is a directory, in a folder that is missing, part of a bundle or a state,
            or given twice.
    """
    from plr_edge.errors import ConfigError

    taken: dict[Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        try:
            problem = _problem(path, suffixes)
        except OSError as error:
            problem = f"cannot be written ({error.strerror}); choose another path"
        if problem:
            raise ConfigError(f"--{name} {path} {problem}")
        other = taken.setdefault(path.resolve(), name)
        if other != name:
            raise ConfigError(f"--{name} and --{other} name the same file {path}; choose another")


def _problem(path: Path, suffixes: Sequence[str]) -> str:
    """Return why a file cannot be written. Empty if it can."""
    import os

    if path.is_dir():
        return "is a directory; add the name of a file"
    if suffixes and path.suffix.lower() not in suffixes:
        return f"has no known ending; it must end in {' or '.join(suffixes)}"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "is not a plain file; choose another path"
    if not path.parent.is_dir():
        return f"is in {path.parent}, which is not a directory; create it first"
    for folder in path.resolve().parents:
        for mark, kind in _MARKS.items():
            if (folder / mark).is_file():
                return f"is inside the {kind} {folder}; choose another path"
    if not os.access(path.parent, os.W_OK):
        return f"is in {path.parent}, which cannot be written; choose another path"
    return ""
