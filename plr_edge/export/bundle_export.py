"""Export a backbone to a bundle, and compare it with PyTorch on real images before writing it.

A bundle that fails the comparison is never written.
"""

from __future__ import annotations

import copy
import logging
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from plr_edge.backbones.base import Backbone, fold_batch_norm, named_blocks
from plr_edge.backbones.checks import BATCH, check_finite
from plr_edge.bundle.bundle import Bundle, splice
from plr_edge.bundle.write import check_target, write_bundle
from plr_edge.errors import BackboneError, BundleError, ConfigError, one_line
from plr_edge.export.adaptive import level_entries
from plr_edge.export.divided import FrozenGraph, adaptive_template
from plr_edge.export.parity import ExportReport, check_parity, compare, reference_features
from plr_edge.export.precision import PRECISIONS, default_int8_profile, quantised
from plr_edge.export.split import block_costs, check_cut, latent_axes, levels_of, split
from plr_edge.export.to_onnx import FrozenPart, module_to_onnx, weight_slots
from plr_edge.export.trainable import check_gradients, is_trainable
from plr_edge.export.windows import windows_of
from plr_edge.graph.tensorrt import RELEASES, troubles

_MAX_PARITY_IMAGES = 64
_MAX_CALIBRATION = 96
_log = logging.getLogger(__name__)


def export_bundle(
    backbone: Backbone,
    cut: str,
    path: str | Path,
    *,
    images: Sequence[np.ndarray] | None = None,
    force: bool = False,
    key: Path | None = None,
    release: int = 0,
    static_feature: bool = False,
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] | None = None,
    int8_profile: str | None = None,
    check: str | None = None,
) -> tuple[Bundle, ExportReport]:
    """Split a backbone, export both parts, compare them with PyTorch, and write the bundle.

    Args:
        backbone: the network to export; it is not changed.
        cut: name of the block that becomes the first adaptive one.
        path: directory to write.
        images: (H, W, 3) uint8 RGB images to compare on, of which the first 64 are used; embedded
            ones by default.
        force: replace an existing bundle.
        key: private key (PEM) to sign the bundle with; unsigned by default.
        release: release number. A state refuses a bundle with a lower one than it has seen.
        static_feature: let the fast classifier also read the feature of the unadapted network.
        precision: precision of the frozen part: fp32, fp16 or int8. The adaptive part is fp32.
        calibration: (H, W, 3) uint8 RGB images that int8 is calibrated on, different from
            `images`, of which the first 96 are used; embedded ones by default.
        int8_profile: `u8s8` or `s8s8`; `default_int8_profile()` by default.
        check: `tensorrt` to refuse a frozen part that no release of TensorRT is known to read.

    Returns:
        bundle: the bundle as written.
        report: its differences from PyTorch.

    Raises:
        CutError: the cut is not legal, or what lies above it cannot be trained.
        BackboneError: the network fails, or has weights that are not finite or that training
            cannot reach.
        BundleError: the blocks or the exported parts differ too much from the network in PyTorch,
            or the disk refuses.
        ConfigError: the precision or the profile is unknown, or there are no images.
    """
    check_target(Path(path), force=force)
    _check_options(precision, int8_profile, images, calibration)
    if precision == "int8" and int8_profile is None:
        int8_profile = default_int8_profile()
    files, manifest, report = _exported(
        backbone, cut, images, static_feature, precision, calibration, int8_profile
    )
    manifest["release"] = release
    if check == "tensorrt" and all((found := troubles(files["frozen.onnx"])).values()):
        raise BundleError(
            f"TensorRT cannot read the frozen part: {'; '.join(found[RELEASES[-1]])}; nothing was "
            "written; cut earlier, or leave out --check"
        )
    return write_bundle(Path(path), files, manifest, force=force, key=key), report


def _exported(
    backbone: Backbone, cut: str, images: Sequence[np.ndarray] | None, static_feature: bool,
    precision: str, calibration: Sequence[np.ndarray] | None, profile: str | None,
) -> tuple[dict[str, bytes], dict[str, Any], ExportReport]:  # fmt: skip
    """Export both parts and compare them with PyTorch. Returns members, manifest and report."""
    split(backbone, cut)  # an illegal cut fails before any work
    check_finite(backbone.name, backbone.blocks, backbone.classifier)
    folded = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
    check_cut(folded, cut)
    frozen_blocks, adaptive = split(folded, cut)
    levels = levels_of(folded, cut)
    axes = latent_axes(folded, cut, levels[0].shape)
    part = _frozen_part(folded, cut, static_feature)
    chosen = _embedded_images("test") if images is None else list(images)[:_MAX_PARITY_IMAGES]
    x = backbone.preprocessing(chosen)
    features = reference_features(backbone, folded, x)
    _check_training(backbone, cut, frozen_blocks, adaptive, x)
    frozen, n_float = _frozen_model(part, backbone, precision, calibration, profile)
    files = {"frozen.onnx": frozen}
    weights = {name: t.detach().numpy() for name, t in adaptive.state_dict().items()}
    if backbone.divided is None:
        template = _adaptive_template(adaptive, levels[0].shape, weights)
    else:
        template = adaptive_template(backbone, cut, weights)
    files["adaptive.onnx"], slots = template
    report, latents = compare(backbone, cut, files, x, features)
    check_parity(report, precision)
    manifest = {
        "backbone": backbone.name,
        "cut": cut,
        "preprocessing": backbone.preprocessing.to_dict(),
        "levels": [asdict(level) for level in levels],
        "taps": [[name, grid] for name, grid in part.taps.items()],
        "tap_shapes": part.tap_shapes,
        "taps_width": part.taps_width,
        "precision": precision,
        "int8_profile": profile,
        "float_convolutions": n_float,
        "static_feature": static_feature,
        "frozen_macs": _frozen_macs(folded, cut, static_feature),
        "latent_signed": bool(latents.min() < 0),
        "latent_axes": axes,
        **level_entries(files["adaptive.onnx"], levels, slots, adaptive, latents),
        **windows_of(adaptive, levels, files["adaptive.onnx"], latents, axes),
        **({"source": dict(backbone.source)} if backbone.divided is not None else {}),
        "adaptive_slots": slots,
        "parity": asdict(report),
        "made_with": _versions(),
    }
    return files, manifest, report


def _check_options(
    precision: str, int8_profile: str | None, images: Sequence[np.ndarray] | None,
    calibration: Sequence[np.ndarray] | None,
) -> None:  # fmt: skip
    """Raise a ConfigError for a value that is not allowed, and log what will not be used."""
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    for name, value in (("calibration", calibration), ("int8_profile", int8_profile)):
        if value is not None and precision != "int8":
            _log.warning("%s is for int8; with precision %s it is not used", name, precision)
    for option, given in (("images", images), ("calibrate", calibration)):
        if given is not None and not len(given):
            raise ConfigError(f"--{option} holds no image that can be read; give another stream")


def _check_training(
    backbone: Backbone, cut: str, frozen: nn.Sequential, adaptive: nn.Sequential, x: np.ndarray
) -> None:
    """Check that training reaches every weight above the cut, and log what the user should know."""
    n_fixed = sum(not p.requires_grad for p in split(backbone, cut)[1].parameters())
    if n_fixed:
        _log.warning(
            "%d weights of %s above the cut have requires_grad=False; the cut alone decides what "
            "is frozen, so they will be trained", n_fixed, backbone.name,
        )  # fmt: skip
    if not is_trainable(adaptive):
        _log.warning(
            "no block of %s has weights above the cut %r: the classifier alone will be trained",
            backbone.name, cut,
        )  # fmt: skip
    adaptive.requires_grad_(True)
    with torch.no_grad():
        latents = frozen(torch.from_numpy(x[:2]))
    check_gradients(backbone.name, adaptive, latents)


def _frozen_part(backbone: Backbone, cut: str, static_feature: bool) -> FrozenPart | FrozenGraph:
    if backbone.divided is not None:
        return FrozenGraph(backbone, cut, static_feature=static_feature)
    return FrozenPart(backbone, cut, static_feature=static_feature).eval()


def _versions() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "python": platform.python_version(),
    }


def _frozen_model(
    part: FrozenPart | FrozenGraph, backbone: Backbone, precision: str,
    calibration: Sequence[np.ndarray] | None, profile: str | None,
) -> tuple[bytes, int]:  # fmt: skip
    """Return the serialised frozen part, and how many of its convolutions stayed in float."""
    model = part.model(half=precision == "fp16")
    if profile is None:
        return model, 0
    if calibration is None:
        images = _embedded_images("train", _MAX_CALIBRATION)
    else:
        images = list(calibration)[:_MAX_CALIBRATION]
    return quantised(model, backbone.preprocessing(images), profile)


def _adaptive_template(
    adaptive: nn.Sequential, latent_shape: tuple[int, ...], weights: dict[str, np.ndarray]
) -> tuple[bytes, dict[str, tuple[int, list[int]]]]:
    """Export the adaptive part as a template with a slot for each weight.

    The exporter stores equal tensors once and drops biases of zero. The export therefore uses
    random weights, and the real ones are spliced in afterwards.

    Returns:
        model: the serialised model with the real weights.
        slots: byte offset and shape of each weight in it, by name.
    """
    try:
        stand_in: nn.Module = copy.deepcopy(adaptive) if len(adaptive) else nn.Identity()
    except Exception as error:  # e.g. weights that hooks compute
        reason = one_line(error, 120)
        raise BackboneError(
            f"the blocks above the cut cannot be copied ({reason}); keep plain parameters in them, "
            "e.g. by torch.nn.utils.prune.remove()"
        ) from error
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in stand_in.state_dict().values():
            tensor.normal_(generator=generator)
    model = module_to_onnx(stand_in, torch.zeros(BATCH, *latent_shape), "latent", ["feature"])
    layers = {
        f"{layer}.{name}": f"a {type(module).__name__}"
        for layer, module in stand_in.named_modules(remove_duplicate=False)
        for name in module.state_dict()
        if "." not in name
    }
    arrays = {name: tensor.numpy() for name, tensor in stand_in.state_dict().items()}
    slots = weight_slots(model, arrays, layers)
    return splice(model, slots, weights), slots


def _frozen_macs(backbone: Backbone, cut: str, static_feature: bool) -> int:
    macs, _ = block_costs(backbone)
    frozen, _ = split(backbone, cut)
    if static_feature:
        return sum(macs.values())
    return sum(macs[name] for name, _ in named_blocks(frozen))


def _embedded_images(split: str, n: int = _MAX_PARITY_IMAGES) -> list[np.ndarray]:
    from plr_edge.stream import open_stream

    frames = list(open_stream("demo", split=split, limit_per_class=n // 12))
    return [frame.image for frame in frames][:n]
