"""`plr-edge bench`: moved out of the package; says where to."""

from __future__ import annotations

import click

from plr_edge.errors import PlrEdgeError


@click.command(
    "bench",
    hidden=True,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Benchmarks are not part of the installed package; run them from a checkout."""
    again = " ".join(["python -m benchmarks", *ctx.args])
    raise PlrEdgeError(f"benchmarks are not installed; in a checkout of plr-edge, run `{again}`")
