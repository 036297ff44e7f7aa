"""`python -m benchmarks`: measurements on real data, beside what a user could pick instead."""

from __future__ import annotations

import importlib
from typing import Any

import click

from plr_edge.cli.options import with_new_names
from plr_edge.errors import PlrEdgeError

_GRIDS = ("compare", "streams", "generated", "wide", "switches")
_OWN = (
    "unknown",
    "consolidation",
    "peers",
    "fleet",
    "growth",
    "pace",
    "precisions",
    "networks",
    "cost",
    "boards",
    "figures",
    "unpack",
)
_RENAMED = {
    "fruits": "streams --dataset fruits",
    "fruits-axes": "streams --dataset fruits-axes",
    "grocery": "streams --dataset grocery",
    "cifar100-stream": "streams --dataset cifar100",
    "cifar100": "generated --dataset cifar100",
    "mnist": "generated --dataset mnist-all",
}  # names until 0.1


class _UserError(click.ClickException):
    """What a user or a file caused: one line, exit code 2."""

    exit_code = 2


class _Benchmarks(click.Group):
    """One command for each benchmark, loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_GRIDS, *_OWN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _GRIDS:
            return importlib.import_module("benchmarks.cli.grids").make_command(cmd_name)
        if cmd_name not in _OWN:
            return None
        return importlib.import_module(f"benchmarks.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in _RENAMED:
            click.echo(f"`{args[0]}` is now `{_RENAMED[args[0]]}`", err=True)
            args = [*_RENAMED[args[0]].split(), *args[1:]]
        return super().resolve_command(ctx, with_new_names(args, {"--memory": "--latent-memory"}))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PlrEdgeError as error:
            raise _UserError(str(error)) from error


@click.command("benchmarks", cls=_Benchmarks)
def command() -> None:
    """Compare plr-edge with what a user could pick instead, on real data."""
