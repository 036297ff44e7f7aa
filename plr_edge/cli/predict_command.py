"""`plr-edge predict`: one line of JSON per frame, in a process without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.left_out import print_left_out
from plr_edge.cli.options import (
    bundle_argument,
    engine_options,
    state_option,
    stream_argument,
    stream_options,
    threads_option,
    trust_option,
)


@click.command("predict")
@bundle_argument
@stream_argument
@state_option
@click.option(
    "--unknown",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Answer `unknown` for frames that resemble nothing learned.",
)
@threads_option
@engine_options
@trust_option
@stream_options
def command(
    bundle: Path,
    stream: str,
    state: Path,
    unknown: str,
    threads: int,
    engine: str,
    providers: tuple[str, ...],
    trust: Path | None,
    **options: Any,
) -> None:
    """Classify a stream, one line of JSON per frame."""
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.errors import StreamError
    from plr_edge.runtime.perception import Perception
    from plr_edge.stream import open_stream

    opened = open_bundle(bundle, trust)
    perception = Perception.from_state(
        opened,
        state,
        n_threads=threads,
        unknown=unknown == "on",
        engine=engine,
        providers=providers,
    )
    frames = open_stream(stream, **options)
    n_frames = 0
    for n_frames, frame in enumerate(frames, start=1):  # noqa: B007
        (prediction,) = perception.predict_many([frame])
        click.echo(json.dumps(prediction.to_dict()))
    print_left_out(frames)
    if n_frames == 0:
        raise StreamError(f"{stream} has no readable frame; there is nothing to predict")
