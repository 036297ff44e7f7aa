"""`plr-edge export`: split a backbone and write a bundle."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import json_option, needs_extras
from plr_edge.cli.values import Whole

_COMPARED = 64  # images on which the parts are compared with PyTorch
_CALIBRATED = 96  # images that set the scales of int8


@click.command("export")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="TOML recipe with backbone, weights, cut, input_size, precision and static_feature. Other "
    "options override it.",
)
@click.option(
    "--backbone",
    show_default="mobilenet_v2",
    help="Built-in name, torchvision:NAME, timm:NAME, package.module:function that returns an "
    "nn.Module, or an .onnx file.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Safetensors or .pth file with the weights of the backbone, under its own names.",
)
@click.option(
    "--pretrained",
    is_flag=True,
    default=None,
    help="Let torchvision or timm load their own weights, which they download.",
)
@click.option(
    "--cut",
    show_default="block14 of mobilenet_v2, else where latents are small and something is left to "
    "train",
    help="First adaptive block. --list-cuts prints the choices.",
)
@click.option("--input-size", type=Whole(0), help="Height and width of the input in pixels.")
@click.option(
    "--input-shape",
    help="Shape of the input: C,H,W of an image with one or three channels, or C,T of a sequence, "
    "which comes as a grey image of C rows and T columns.",
)
@click.option(
    "--mean",
    show_default="that of the network's library, else of ImageNet",
    help="Mean of each channel, in units of --range.",
)
@click.option(
    "--std",
    help="Standard deviation of each channel, in the same units.",
)
@click.option(
    "--range",
    show_default="0..1",
    help="Values of black and white that the network takes, such as 0..255 or -1..1.",
)
@click.option("--bgr", is_flag=True, default=None, help="The network takes blue, green and red.")
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    show_default="as the shape says",
    help="Order of the axes of an .onnx file's input.",
)
@click.option(
    "--feature",
    help="Value or module whose output is the feature; what the classifier takes by default.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    show_default="fp32",
    help="Precision of the frozen part.",
)
@click.option(
    "--calibrate",
    show_default="the embedded images",
    help="Stream of images that set the scales of int8, the first 96.",
)
@click.option(
    "--int8-profile",
    type=click.Choice(["u8s8", "s8s8"]),
    show_default="the one that suits this machine",
    help="Types of int8 activations and weights: u8s8 for x86 processors, s8s8 for "
    "TensorRT and Arm.",
)
@click.option(
    "--static-feature",
    is_flag=True,
    default=None,
    help="Let the fast classifier also read the feature of the network as exported. This "
    "is more accurate on kinds of objects, and costs a second pass of the adaptive part "
    "per frame.",
)
@click.option(
    "-o",
    "--output",
    default="bundle",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory of the bundle to write.",
)
@click.option("--list-cuts", is_flag=True, help="Print the cost of each cut and exit.")
@click.option(
    "--images",
    show_default="the embedded images",
    help="Stream of images for the comparison with PyTorch, the first 64.",
)
@click.option(
    "--sign",
    type=click.Path(path_type=Path),
    help="Private Ed25519 key (PEM) to sign the bundle with.",
)
@click.option(
    "--release",
    default=0,
    show_default=True,
    type=Whole(0),
    help="Release number of a signed bundle. A learned state refuses a lower one.",
)
@click.option(
    "--check",
    type=click.Choice(["tensorrt"]),
    help="Say which releases of TensorRT read the frozen part, by their tables of operators, and "
    "refuse one that none reads.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@json_option
@needs_extras("export")
def command(
    recipe: Path | None,
    output: Path,
    list_cuts: bool,
    images: str | None,
    calibrate: str | None,
    int8_profile: str | None,
    check: str | None,
    force: bool,
    sign: Path | None,
    release: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Split a network and write a bundle.

    The bundle holds a frozen part, which runs on the chosen engine, and an adaptive part, which
    learns on the robot.
    """
    from dataclasses import replace

    from plr_edge.errors import ConfigError
    from plr_edge.export.bundle_export import export_bundle
    from plr_edge.export.recipe import Recipe, read_recipe
    from plr_edge.export.source import source_of
    from plr_edge.export.sources import load_network
    from plr_edge.export.split import default_cut

    wanted = Recipe() if recipe is None else read_recipe(recipe)
    wanted = replace(wanted, **{name: value for name, value in given.items() if value is not None})
    if not list_cuts:
        _check_target(output, force, sign)
    network = load_network(source_of(wanted))
    if network.divided is not None and network.divided.note:
        click.echo(f"{network.name}: {network.divided.note}", err=True)
    if list_cuts:
        _print_cuts(network, as_json)
        return
    precision = wanted.precision
    for option, value in (("--calibrate", calibrate), ("--int8-profile", int8_profile)):
        if value is not None and precision != "int8":
            raise ConfigError(
                f"{option} is for int8, and the precision is {precision}; add --precision int8, or "
                "leave it out"
            )
    bundle, report = export_bundle(
        network, default_cut(network) if wanted.cut is None else wanted.cut, output,
        images=_images("--images", images, "all", _COMPARED), force=force, key=sign,
        release=release, static_feature=wanted.static_feature, precision=precision,
        calibration=_images("--calibrate", calibrate, "train", _CALIBRATED),
        int8_profile=int8_profile, check=check,
    )  # fmt: skip
    _print_result(output, bundle, report, check, as_json)


def _check_target(output: Path, force: bool, sign: Path | None) -> None:
    """Refuse a target or a key that cannot be used, before the network is loaded."""
    from plr_edge.bundle.signing import read_private_key
    from plr_edge.bundle.write import check_target

    check_target(output, force=force)
    if sign is not None:
        read_private_key(sign)


def _images(option: str, spec: str | None, split: str, n: int) -> list[Any] | None:
    """Read the first `n` images of a stream that was given. None if none was."""
    from plr_edge.errors import StreamError
    from plr_edge.stream import open_stream

    if spec is None:
        return None
    stream = open_stream(spec, split=split)
    found = [frame.image for frame in islice(stream, n)]
    first = f"; the first: {stream.skipped[0].reason}" if stream.skipped else ""
    if not found:
        raise StreamError(f"{option} {spec}: no image can be read{first}")
    if stream.skipped:
        click.echo(
            f"{option} {spec}: {len(stream.skipped)} images cannot be read and are left out{first}",
            err=True,
        )
    return found


def _print_result(
    output: Path, bundle: Any, report: Any, check: str | None, as_json: bool
) -> None:  # fmt: skip
    import json
    from dataclasses import asdict

    from plr_edge.graph.tensorrt import troubles

    found = {} if check is None else {"tensorrt": troubles(bundle.read("frozen.onnx"))}
    if as_json:
        click.echo(json.dumps({"bundle": str(output), "parity": asdict(report), **found}))
        return
    n_bytes = sum(entry["bytes"] for entry in bundle.manifest["files"].values())
    click.echo(
        f"wrote {output}: {bundle.name}, {bundle.precision}, latent {bundle.latent_shape}, "
        f"{n_bytes / 1e6:.1f} MB"
    )
    click.echo(
        f"compared with PyTorch on {report.n_images} real images: latent max abs "
        f"{report.latent_max_abs:.1e} (values up to {report.latent_max_value:.1f}), "
        f"cosine {report.latent_cosine:.7f} (mean {report.mean_cosine:.7f}), "
        f"cosine of the feature {report.feature_cosine:.7f}, "
        f"top-1 agreement {report.top1_agreement:.1%}"
    )
    for name, odd in found.get("tensorrt", {}).items():
        click.echo(f"TensorRT {name}: {'; '.join(odd) or 'all operators are known'}")


def _print_cuts(network: Any, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from plr_edge.cli.tables import print_table
    from plr_edge.export.split import list_cuts

    cuts = list_cuts(network)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in cuts], indent=1))
        return
    rows = [
        {
            "cut before": cut.name,
            "latent": "x".join(map(str, cut.latent_shape)),
            "bytes f32": f"{cut.latent_bytes:,}",
            "frozen MACs": f"{cut.frozen_share:.1%}",
            "train MMACs": f"{cut.train_macs / 1e6:.1f}",
            "autograd keeps": f"{cut.saved_bytes / 1e3:,.0f} kB",
        }
        for cut in cuts
    ]
    print_table(rows, title=f"legal cuts of {network.name}, per sample", left=["cut before"])
