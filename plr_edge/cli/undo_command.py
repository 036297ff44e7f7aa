"""`plr-edge undo`: learn as if some labels had never been taught."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import (
    allow_code_option,
    bundle_argument,
    state_option,
    threads_option,
    trust_option,
)


@click.command("undo")
@bundle_argument
@state_option
@click.option("--last", type=click.IntRange(1), help="The last N labels.")
@click.option("--class", "name", help="Labels of one class.")
@click.option("--source", help="Labels whose source starts with this.")
@click.option("--label", "seqs", multiple=True, type=click.IntRange(1), metavar="N",
              help="The label with this number in `plr-edge log`; may be repeated.")  # fmt: skip
@click.option("--since", type=click.DateTime(), help="Taught at this time or later.")
@click.option("--until", type=click.DateTime(), help="Taught before this time.")
@threads_option
@trust_option
@allow_code_option
def command(
    bundle: Path,
    state: Path,
    threads: int,
    trust: Path | None,
    allow_code: bool,
    last: int | None,
    **wanted: Any,
) -> None:
    """Undo labels of --state, and learn again from the last generation before them.

    Conditions add up: with --class and --last, the last N of that class.
    """
    import time

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import EngineConfig
    from plr_edge.errors import ConfigError
    from plr_edge.export.adaptive import check_code
    from plr_edge.runtime.session import Session
    from plr_edge.store import LEARNED, QUARANTINED, UNDONE, opened_for_reading

    if last is None and not any(wanted.values()):
        raise ConfigError(
            "say what to undo: --last, --class, --source, --label, --since or --until"
        )
    opened, start = open_bundle(bundle, trust), time.perf_counter()
    check_code(opened, allow_code)
    with opened_for_reading(state) as store:
        taught = [label for label in store.labels() if label.status in (LEARNED, QUARANTINED)]
        seqs = [label.seq for label in taught if _matches(label, **wanted)]
        seqs = seqs[-last:] if last else seqs
        if not seqs:
            raise ConfigError(
                f"no label of {state} is like that; `plr-edge log {state}` lists them"
            )
        store.mark(seqs, UNDONE, "undone by hand")
    engines = EngineConfig(n_threads=threads, allow_code=allow_code)
    with Session.resume(opened, state, engines) as session:
        session.finish()
        seconds = time.perf_counter() - start
        click.echo(
            f"{len(seqs)} labels undone, {session.learned.n_taught} left, "
            f"{len(session.learned.classes)} classes; "
            f"{seconds:.1f} s"
        )


def _matches(
    label: Any,
    name: str | None,
    source: str | None,
    seqs: tuple[int, ...],
    since: datetime | None,
    until: datetime | None,
) -> bool:
    from plr_edge.store import stored_source

    at = label.time_ns / 1e9
    return (
        (name is None or label.name == name)
        and (source is None or label.source.startswith(stored_source(source)))
        and (not seqs or label.seq in seqs)
        and (since is None or at >= since.timestamp())
        and (until is None or at < until.timestamp())
    )
