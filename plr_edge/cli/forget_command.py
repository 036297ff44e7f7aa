"""`plr-edge forget`: delete a class for good."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import (
    allow_code_option,
    bundle_argument,
    needs_extras,
    state_option,
    threads_option,
    trust_option,
)


@click.command("forget", context_settings={"ignore_unknown_options": True})
@bundle_argument
@click.argument("name", metavar="CLASS")
@state_option
@threads_option
@trust_option
@allow_code_option
@needs_extras("train")
def command(bundle: Path, name: str, state: Path, threads: int, trust: Path | None) -> None:
    """Delete every trace of a class.

    Learns again without CLASS. Deleted data is overwritten, but the flash memory may keep remnants.
    If a robot uses --state, it forgets the class while it runs.
    """
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli.running import changed
    from plr_edge.runtime.corrections import forget

    answer = changed(state, "/forget", {"name": name})
    if answer is not None:
        n = answer["forgotten"]
        click.echo(f"{name} forgotten by the running robot, {n} label{'s' * (n != 1)}")
        return

    opened = open_bundle(bundle, trust)
    done = forget(opened, state, name, threads)
    click.echo(f"{name} forgotten, {done.n_changed} labels; {done.n_classes} classes are left")
