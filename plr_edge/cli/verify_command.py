"""`plr-edge verify`: compare an engine with ONNX Runtime."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from plr_edge.cli.left_out import print_left_out
from plr_edge.cli.options import bundle_argument, engine_options, json_option

_COMPARED = 64


@click.command("verify")
@bundle_argument
@engine_options
@click.option("--stream", default="demo", show_default=True, help="Stream of frames to compare on.")
@json_option
@click.pass_context
def command(
    context: click.Context, bundle: Path, engine: str, providers: tuple[str, ...], stream: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare an engine with ONNX Runtime.

    Runs BUNDLE on the chosen engine, and by ONNX Runtime on the processor. The exit code is 1 if
    the results differ.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.engines.verify import verify_engine
    from plr_edge.errors import StreamError
    from plr_edge.stream import open_stream

    opened = open_stream(stream, split="all")
    images = [frame.image for frame in islice(opened, _COMPARED)]
    print_left_out(opened)
    if not images:
        raise StreamError(f"{stream} has no frame to compare on")
    result = verify_engine(open_bundle(bundle), images, engine, providers)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            click.echo(f"{name:>16}  {value}")
    context.exit(0 if result["passed"] else 1)
