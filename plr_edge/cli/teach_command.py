"""`plr-edge teach`: label what a running robot just saw."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import listen_option, new_class_option, state_option
from plr_edge.cli.values import Whole


@click.command("teach")
@click.argument("label")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@state_option
@listen_option
@click.option(
    "--last",
    default=20,
    show_default=True,
    type=Whole(1, 150),
    help="Number of newest frames to label if no images are given.",
)
@click.option(
    "--sequence",
    type=Whole(),
    help="Frame to label, or a run of unknown frames that the robot asked about. `plr-edge "
    "watch` prints their numbers.",
)
@new_class_option
def command(
    label: str,
    images: tuple[Path, ...],
    state: Path,
    listen: str,
    last: int,
    sequence: int | None,
    new_class: bool,
) -> None:
    """Teach a running robot a class.

    Labels the newest frames as LABEL, or IMAGES if they are given.
    """
    import base64
    import json
    import secrets

    from plr_edge.cli.client import ask
    from plr_edge.errors import StreamError

    body: dict[str, object] = {"label": label, "last": last, "key": secrets.token_hex(8)}
    if new_class:
        body["new_class"] = True
    if sequence is not None:
        body["sequence"] = sequence
    if images:
        try:
            data = [base64.b64encode(image.read_bytes()).decode() for image in images]
        except OSError as error:
            raise StreamError(f"cannot read {error.filename}: {error.strerror}") from None
        body["images"] = data
    answer = json.loads(ask(listen, "POST", "/teach", body, state).read())
    quarantined = f", {answer['quarantined']} quarantined" if answer.get("quarantined") else ""
    click.echo(f"{label}: {answer['taught']} taught{quarantined}")
