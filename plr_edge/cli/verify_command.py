"""`plr-edge verify`: compare an engine with ONNX Runtime, and with the float network."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.left_out import print_left_out
from plr_edge.cli.options import bundle_argument, engine_options, json_option

_COMPARED = 64


@click.command("verify")
@bundle_argument
@engine_options
@click.option("--stream", default="demo", show_default=True, help="Stream of frames to compare on.")
@click.option(
    "--float",
    "float_bundle",
    type=click.Path(path_type=Path),
    help="The same network exported in fp32, to compare with.  [default: built again by PyTorch "
    "where its weights are here]",
)
@json_option
@click.pass_context
def command(
    context: click.Context, bundle: Path, engine: str, providers: tuple[str, ...], stream: str,
    float_bundle: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare an engine with ONNX Runtime and the float network.

    Runs BUNDLE on the chosen engine, by ONNX Runtime on the processor, and in float32 as it was
    before it was quantised. The exit code is 1 if the results differ more than they may.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.engines.verify import verify_engine
    from plr_edge.errors import ConfigError, StreamError
    from plr_edge.stream import open_stream

    opened = open_stream(stream, split="all")
    images = [frame.image for frame in islice(opened, _COMPARED)]
    print_left_out(opened)
    if not images:
        raise StreamError(f"{stream} has no frame to compare on")
    made = open_bundle(bundle)
    float_part, why_not = _float_part(made, float_bundle)
    if float_part is None and made.precision != "fp32" and engine == "onnx":
        raise ConfigError(
            f"{bundle} would be compared with itself ({why_not}); give --float with the same "
            "network exported in fp32"
        )
    result = verify_engine(made, images, engine, providers, float_part)
    if float_part is None:
        click.echo(f"not compared with the float network: {why_not}", err=True)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            click.echo(f"{name:>16}  {value}")
    context.exit(0 if result["passed"] else 1)


def _float_part(bundle: Any, float_bundle: Path | None) -> tuple[Any, str]:
    """Return the frozen part in float32 as a function, or None and the reason."""
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.engines.onnx_engine import OnnxEngine
    from plr_edge.errors import BundleError, ConfigError, MissingExtraError, require

    if float_bundle is not None:
        other = open_bundle(float_bundle)
        facts = ("backbone", "cut", "preprocessing", "taps")
        unlike = [name for name in facts if other.manifest[name] != bundle.manifest[name]]
        if unlike or other.precision != "fp32":
            why = f"its {unlike[0]} differs" if unlike else f"it is {other.precision}"
            raise ConfigError(f"{float_bundle} is not {bundle.path} in fp32: {why}")
        engine = OnnxEngine(other.read("frozen.onnx"))
        return (lambda x: engine.run(x)[0]), ""
    try:
        require("train", why="PyTorch")
        from plr_edge.export.float_part import float_part

        return float_part(bundle), ""
    except (BundleError, MissingExtraError) as error:
        return None, str(error)
