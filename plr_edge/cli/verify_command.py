"""`plr-edge verify`: does an engine return what ONNX Runtime returns?"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click

from plr_edge.cli.options import bundle_argument, engine_options

_COMPARED = 64


@click.command("verify")
@bundle_argument
@engine_options
@click.option("--stream", default="demo", show_default=True, help="Frames to compare on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_context
def command(
    context: click.Context, bundle: Path, engine: str, providers: tuple[str, ...], stream: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Compare an engine of BUNDLE with ONNX Runtime on the processor; exit code 1 if it differs."""
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.engines.verify import verify_engine
    from plr_edge.errors import StreamError
    from plr_edge.stream import open_stream

    images = [frame.image for frame in islice(open_stream(stream, split="all"), _COMPARED)]
    if not images:
        raise StreamError(f"{stream} holds no frame to compare on")
    facts = verify_engine(open_bundle(bundle), images, engine, providers)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        for name, value in facts.items():
            click.echo(f"{name:>16}  {value}")
    context.exit(0 if facts["passed"] else 1)
