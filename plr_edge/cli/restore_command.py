"""`plr-edge restore`: a backup in the place of a state, also while a robot uses it."""

from __future__ import annotations

from pathlib import Path

import click

_WAIT_S = 60.0


@click.command("restore")
@click.argument("backup", type=click.Path(path_type=Path))
@click.argument("state", type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Replace what STATE holds. Its database is kept beside it."
)
def command(backup: Path, state: Path, replace: bool) -> None:
    """Restore STATE from BACKUP, also while a robot uses it.

    A running robot goes on answering, and answers with the backup a few seconds later. The token
    of the robot stays.
    """
    import time

    from plr_edge.errors import StateError
    from plr_edge.store import FILE, Store, restore
    from plr_edge.store.backup import outcome

    if (state / FILE).exists() and not replace:
        raise StateError(
            f"{state} holds a state; give --replace to replace it, or another directory"
        )
    report = restore(backup, state)
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            with Store(state) as store:
                n_labels, by = len(store.labels), "restored"
            break
        except StateError as error:
            if "in use" not in str(error):
                raise
        if outcome(state):
            n_labels, by = report.labels, "restored by the robot that uses it"
            break
        if time.monotonic() > end:
            raise StateError(
                f"the process that uses {state} did not take the backup within {_WAIT_S:.0f} s; "
                "its next start does"
            )
        time.sleep(0.2)
    click.echo(f"{state} is {by}: {n_labels} labels")
