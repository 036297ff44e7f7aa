"""Tables of text on standard output: columns as wide as their longest cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click


def print_table(
    rows: Sequence[Mapping[str, str]], *, title: str = "", left: Sequence[str] = ()
) -> None:
    """Print rows below a title and their column names.

    Args:
        rows: cells by column name; all rows have the same columns. No row prints nothing.
        title: line above the table.
        left: columns aligned to the left; the others are aligned to the right.
    """
    if not rows:
        return
    lines = [{column: column for column in rows[0]}, *rows]
    widths = {column: max(len(line[column]) for line in lines) for column in rows[0]}
    if title:
        click.secho(title, bold=True)
    for line in lines:
        cells = (
            line[column].ljust(width) if column in left else line[column].rjust(width)
            for column, width in widths.items()
        )
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, underline=True) if line is lines[0] else text)
