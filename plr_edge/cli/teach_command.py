"""`plr-edge teach`: label what a running robot just saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import new_class_option, optional_state_option, robot_options
from plr_edge.cli.values import Whole

_KNOWN = (b"\xff\xd8\xff", b"\x89PNG")  # JPEG and PNG
_AS_IT_IS_BYTES, _SIDE = 300_000, 1024  # larger files are sent as PNG of at most so many pixels


@click.command("teach")
@click.argument("label")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@optional_state_option
@robot_options
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
    last: int,
    sequence: int | None,
    new_class: bool,
    **target: Any,
) -> None:
    """Teach a running robot a class.

    Labels the newest frames as LABEL, or IMAGES if they are given.
    """
    import secrets

    from plr_edge.cli.client import Target, answer
    from plr_edge.errors import ConfigError

    robot = Target(**target)
    if robot.state is None and robot.token_file is None:
        raise ConfigError("teaching needs a token; give --state or --token-file")
    body: dict[str, object] = {"label": label, "last": last, "key": secrets.token_hex(8)}
    if new_class:
        body["new_class"] = True
    if sequence is not None:
        body["sequence"] = sequence
    if images:
        body["images"] = [_to_send(image) for image in images]
    taught = answer(robot, "POST", "/teach", body)
    quarantined = f", {taught['quarantined']} quarantined" if taught.get("quarantined") else ""
    click.echo(f"{label}: {taught['taught']} taught{quarantined}")


def _to_send(image: Path) -> str:
    """Return an image file in base64, as a small PNG if it is large or of another format."""
    import base64
    import io

    from plr_edge.errors import StreamError

    try:
        data = image.read_bytes()
    except OSError as error:
        raise StreamError(f"cannot read {error.filename}: {error.strerror}") from None
    if len(data) > _AS_IT_IS_BYTES or not data.startswith(_KNOWN):
        from PIL import Image

        from plr_edge.stream.decode import decode_image

        picture = Image.fromarray(decode_image(data, str(image)))
        picture.thumbnail((_SIDE, _SIDE))
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        data = stream.getvalue()
    return base64.b64encode(data).decode()
