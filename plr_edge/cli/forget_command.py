"""`plr-edge forget`: delete a class for good."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import (
    allow_code_option,
    bundle_argument,
    state_option,
    threads_option,
    trust_option,
)


@click.command("forget")
@bundle_argument
@click.argument("name", metavar="CLASS")
@state_option
@threads_option
@trust_option
@allow_code_option
def command(
    bundle: Path, name: str, state: Path, threads: int, trust: Path | None, allow_code: bool
) -> None:
    """Delete every label and latent of CLASS, and learn again without it.

    Deleted rows are overwritten; the flash itself may keep remnants.
    """
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import EngineConfig
    from plr_edge.errors import ConfigError
    from plr_edge.export.adaptive import check_code
    from plr_edge.runtime.session import Session
    from plr_edge.store import opened_for_reading

    opened = open_bundle(bundle, trust)
    check_code(opened, allow_code)
    with opened_for_reading(state) as store:
        n_gone = store.forget(name)
        if not n_gone:
            names = sorted({label.name for label in store.labels()})
            raise ConfigError(f"{state} knows no class {name!r}; it knows {', '.join(names)[:200]}")
    engines = EngineConfig(n_threads=threads, allow_code=allow_code)
    with Session.resume(opened, state, engines) as session:
        session.finish()
        click.echo(
            f"{name} forgotten, {n_gone} labels; {len(session.learned.classes)} classes are left"
        )
