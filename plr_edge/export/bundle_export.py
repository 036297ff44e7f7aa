"""Export a backbone to a bundle, and compare it with PyTorch on real images before writing it.

A bundle that fails the comparison is never written.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.numpy import save as save_safetensors
from torch import nn

from plr_edge.backbones.base import Backbone, fold_batch_norm
from plr_edge.bundle.bundle import Bundle, splice
from plr_edge.bundle.write import write_bundle
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import BundleError, ConfigError
from plr_edge.export.precision import (
    PARITY_LIMITS,
    PRECISIONS,
    HalfPart,
    cosines,
    default_int8_profile,
    quantised,
)  # fmt: skip
from plr_edge.export.split import block_costs, levels_of, split
from plr_edge.export.to_onnx import FrozenPart, module_to_onnx, weight_slots

_MAX_PARITY_IMAGES = 64
_MAX_CALIBRATION = 96
_ADVICE = {
    "fp32": "look for layers that depend on the batch or on training mode",
    "fp16": "values may exceed the range of float16; export with --precision fp32",
    "int8": "calibrate on images like those of the robot (--calibrate), or use --precision fp16",
}
_PARITY_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """How much the exported parts differ from PyTorch on real images.

    Attributes:
        n_images: number of images compared.
        latent_max_abs: largest absolute difference between two values of a latent.
        latent_max_value: largest absolute value of a latent, for comparison.
        latent_cosine: cosine similarity of the two latents of an image, minimum over images.
        mean_cosine: the same, mean over images.
        feature_max_abs: largest absolute difference between two values of a feature.
        top1_agreement: share of images with the same top-1 class, 0..1. Without a pretraining
            classifier, the index of the feature's largest value counts as the class.
    """

    n_images: int
    latent_max_abs: float
    latent_max_value: float
    latent_cosine: float
    mean_cosine: float
    feature_max_abs: float
    top1_agreement: float


def export_bundle(
    backbone: Backbone,
    cut: str,
    path: str | Path,
    *,
    images: Sequence[np.ndarray] = (),
    force: bool = False,
    key: Path | None = None,
    release: int = 0,
    static_feature: bool = False,
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
    int8_profile: str | None = None,
) -> tuple[Bundle, ExportReport]:
    """Split a backbone, export both parts, compare them with PyTorch, and write the bundle.

    Args:
        backbone: the network to export; it is not changed.
        cut: name of the block that becomes the first adaptive one.
        path: directory to write.
        images: (H, W, 3) uint8 RGB images to compare on; embedded ones by default.
        force: replace an existing bundle.
        key: private key (PEM) to sign the bundle with; unsigned by default.
        release: release number. A state refuses a bundle with a lower one than it has seen.
        static_feature: let the fast classifier also read the feature of the unadapted network.
        precision: precision of the frozen part: fp32, fp16 or int8. The adaptive part is fp32.
        calibration: (H, W, 3) uint8 RGB images that int8 is calibrated on, different from
            `images`; embedded ones by default.
        int8_profile: `u8s8` or `s8s8`; `default_int8_profile()` by default.

    Returns:
        bundle: the bundle as written.
        report: its differences from PyTorch.

    Raises:
        CutError: the cut is not legal.
        BundleError: the exported parts differ too much from PyTorch, or the disk refuses.
        ConfigError: the precision or the profile is unknown.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    split(backbone, cut)  # an illegal cut fails before any work
    folded = Backbone(
        name=backbone.name,
        blocks=fold_batch_norm(backbone.blocks),
        preprocessing=backbone.preprocessing,
        classifier=backbone.classifier,
        taps=backbone.taps,
    )
    _, adaptive = split(folded, cut)
    levels = levels_of(folded, cut)
    part = FrozenPart(folded, cut, static_feature=static_feature).eval()
    x = backbone.preprocessing(list(images)[:_MAX_PARITY_IMAGES] or _embedded_images("test"))
    profile = (int8_profile or default_int8_profile()) if precision == "int8" else None
    frozen, n_float = _frozen_model(part, backbone, precision, calibration, profile)
    files = {"frozen.onnx": frozen}
    weights = {name: t.detach().numpy() for name, t in adaptive.state_dict().items()}
    files["adaptive.onnx"], slots = _adaptive_template(adaptive, levels[0].shape, weights)
    files["adaptive.safetensors"] = save_safetensors(weights)
    report, latents = _compare(backbone, cut, files, x)
    _check_parity(report, precision)
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
        "adaptive_slots": slots,
        "release": release,
        "parity": asdict(report),
        "made_with": _versions(),
    }
    return write_bundle(Path(path), files, manifest, force=force, key=key), report


def _versions() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "python": platform.python_version(),
    }


def _frozen_model(
    part: FrozenPart, backbone: Backbone, precision: str, calibration: Sequence[np.ndarray],
    profile: str | None,
) -> tuple[bytes, int]:  # fmt: skip
    """Return the serialised frozen part, and how many of its convolutions stayed in float."""
    size = backbone.preprocessing.size
    with torch.no_grad():
        part.taps_width = part(torch.zeros(1, 3, size, size))[1].shape[1]
    module = HalfPart(part) if precision == "fp16" else part
    model = module_to_onnx(module, torch.zeros(1, 3, size, size), "image", ["latent", "taps"])
    if profile is None:
        return model, 0
    images = list(calibration)[:_MAX_CALIBRATION] or _embedded_images("train", _MAX_CALIBRATION)
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
    stand_in: nn.Module = copy.deepcopy(adaptive) if len(adaptive) else nn.Identity()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in stand_in.state_dict().values():
            tensor.normal_(generator=generator)
    model = module_to_onnx(stand_in, torch.zeros(1, *latent_shape), "latent", ["feature"])
    slots = weight_slots(model, {n: t.numpy() for n, t in stand_in.state_dict().items()})
    return splice(model, slots, weights), slots


def _frozen_macs(backbone: Backbone, cut: str, static_feature: bool) -> int:
    macs, _ = block_costs(backbone)
    frozen, _ = split(backbone, cut)
    if static_feature:
        return sum(macs.values())
    return sum(macs[name] for name, _ in frozen.named_children())


def _embedded_images(split: str, n: int = _MAX_PARITY_IMAGES) -> list[np.ndarray]:
    from plr_edge.stream import open_stream

    frames = list(open_stream("demo", split=split, limit_per_class=n // 12))
    return [frame.image for frame in frames][:n]


def _compare(
    backbone: Backbone, cut: str, files: dict[str, bytes], x: np.ndarray
) -> tuple[ExportReport, np.ndarray]:
    """Compare the exported parts, run as on a board, with the original network in PyTorch.

    Returns:
        report: the differences.
        latents: (n, *latent shape) float32 of PyTorch.
    """
    frozen, _ = split(backbone, cut)
    with torch.no_grad():
        latents = frozen(torch.from_numpy(x)).numpy()
        features = backbone.blocks(torch.from_numpy(x))
        reference = _top1(backbone, features)
    frozen_engine = OnnxEngine(files["frozen.onnx"])
    adaptive_engine = OnnxEngine(files["adaptive.onnx"])
    outputs = [frozen_engine.run(x[i : i + _PARITY_BATCH]) for i in range(0, len(x), _PARITY_BATCH)]
    ours = np.concatenate([output[0] for output in outputs])
    ours_features = torch.from_numpy(adaptive_engine.run(ours)[0])
    similar = cosines(ours, latents)
    report = ExportReport(
        n_images=len(x),
        latent_max_abs=float(np.abs(ours - latents).max()),
        latent_max_value=float(np.abs(latents).max()),
        latent_cosine=float(similar.min()),
        mean_cosine=float(similar.mean()),
        feature_max_abs=float((ours_features - features).abs().max()),
        top1_agreement=float((_top1(backbone, ours_features) == reference).float().mean()),
    )
    return report, latents


def _top1(backbone: Backbone, features: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        scores = backbone.classifier(features) if backbone.classifier is not None else features
        return scores.argmax(1)


def _check_parity(report: ExportReport, precision: str) -> None:
    """Raise a BundleError if the exported parts differ too much from PyTorch."""
    limits = PARITY_LIMITS[precision]
    limit = limits.relative_error * max(report.latent_max_value, 1e-6)
    checks = {
        f"latents differ by up to {report.latent_max_abs:.2g}": report.latent_max_abs <= limit,
        f"latent cosine is {report.latent_cosine:.6f}": report.latent_cosine >= limits.cosine,
        f"top-1 agrees on {report.top1_agreement:.1%}": (
            report.top1_agreement >= limits.top1_agreement
        ),
    }
    problems = [text for text, passed in checks.items() if not passed]
    if problems:
        raise BundleError(
            f"the exported parts do not match PyTorch ({'; '.join(problems)}); nothing was "
            f"written; {_ADVICE[precision]}"
        )
