"""`plr-edge undo`: learn as if some labels had never been taught."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import (
    allow_code_option,
    bundle_argument,
    needs_extras,
    state_option,
    threads_option,
    trust_option,
)
from plr_edge.cli.values import Whole


@click.command("undo")
@bundle_argument
@state_option
@click.option("--last", type=Whole(), help="Undo only the last N matching labels.")
@click.option("--class", "name", help="Undo labels of this class.")
@click.option("--source", help="Undo labels whose source starts with this text.")
@click.option("--label", "seqs", multiple=True, type=Whole(), metavar="N",
              help="Undo the label that `plr-edge log` numbers N.")  # fmt: skip
@click.option("--after", type=Whole(0), metavar="N",
              help="Undo the labels taught after label N, which no clock can bend.")  # fmt: skip
@click.option("--since", type=click.DateTime(), help="Undo labels taught since this time.")
@click.option("--until", type=click.DateTime(), help="Undo labels taught before this time.")
@threads_option
@trust_option
@allow_code_option
@needs_extras("train")
def command(
    bundle: Path,
    state: Path,
    threads: int,
    trust: Path | None,
    since: datetime | None,
    until: datetime | None,
    **filters: Any,
) -> None:
    """Undo labels, and learn again without them.

    Learning starts again from the last generation of --state before these labels. If a robot uses
    --state, it undoes them while it runs.

    Only labels that pass every given filter are undone. Where the clock of the machine jumped,
    --since and --until follow the corrected times; `plr-edge log --events` says where that was.
    """
    import time

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli.running import changed
    from plr_edge.errors import ConfigError
    from plr_edge.runtime.corrections import undo

    given = any(value not in (None, ()) for value in filters.values())
    if not (since or until or given):
        raise ConfigError(
            "nothing to undo; give --last, --class, --source, --label, --after, --since or --until"
        )
    filters["since_s"] = since and since.timestamp()
    filters["until_s"] = until and until.timestamp()
    body = {name: value for name, value in filters.items() if value not in (None, ())}
    answer = changed(state, "/undo", body)
    if answer is not None:
        n = answer["undone"]
        click.echo(f"{n} label{'s' * (n != 1)} undone by the running robot")
        return
    start = time.perf_counter()
    done = undo(open_bundle(bundle, trust), state, threads, **filters)
    click.echo(
        f"{done.n_changed} label{'s' * (done.n_changed != 1)} undone, "
        f"{done.n_taught} left, {done.n_classes} classes; "
        f"{time.perf_counter() - start:.1f} s"
    )
