"""What a stream left out, and how it was read, on standard error."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import click

from plr_edge.cli.options import printable

_NAMED = 5


def print_left_out(stream: Any) -> None:
    """Print how a `Stream` was read, once it was: images skipped, files left out, white levels."""
    from plr_edge.stream.formats import counted

    if stream.skipped:
        names = [_name(skipped.source) for skipped in stream.skipped]
        click.echo(f"skipped {len(names)} unreadable ({counted(names)}):", err=True)
        for reason in _examples(stream.skipped):
            click.echo(f"  {printable(reason)}", err=True)
    for label in stream.unread_classes():
        click.echo(f"nothing was read of the class {printable(repr(label))}", err=True)
    for note in (*stream.notes, *stream.pixels.notes):
        click.echo(printable(note), err=True)


def _examples(skipped: Any) -> list[str]:
    """Return reasons, those of each suffix first."""
    firsts, rest = dict[str, str](), list[str]()
    for one in skipped:
        suffix = PurePath(_name(one.source)).suffix.lower()
        if suffix in firsts:
            rest.append(one.reason)
        else:
            firsts[suffix] = one.reason
    reasons = [*firsts.values(), *rest]
    n_more = len(reasons) - _NAMED
    return reasons[:_NAMED] + ([f"and {n_more} more"] if n_more > 0 else [])


def _name(source: str) -> str:
    """Return the file of a source. The position in a film or a bag is not part of it."""
    return PurePath(source).name.partition("#")[0]
