"""`python -m benchmarks`: figures on real data, beside what else could be done."""

from __future__ import annotations

import importlib

import click

from benchmarks.cli.splits import SPLITS, STREAMS, make_command

_OWN = ("compare", "peers", "fleet", "growth", "pace", "precisions", "unpack")


class _Bench(click.Group):
    """One command a comparison, loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_OWN, *STREAMS, *SPLITS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in (*STREAMS, *SPLITS):
            return make_command(cmd_name)
        if cmd_name not in _OWN:
            return None
        return importlib.import_module(f"benchmarks.cli.{cmd_name}").command


@click.command("bench", cls=_Bench)
def command() -> None:
    """Compare with what a user could pick instead, on real data."""
