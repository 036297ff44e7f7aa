"""Compares an export with the network as its author gave it, on real images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.modules.batchnorm import _NormBase

from plr_edge.backbones.base import Backbone, named_blocks
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import BackboneError, BundleError, one_line
from plr_edge.export.precision import PARITY_LIMITS, cosines
from plr_edge.export.split import split

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
        feature_cosine: cosine similarity of the two features of an image, minimum over images.
        top1_agreement: share of images with the same top-1 class, 0..1. Without a pretraining
            classifier, the index of the feature's largest value counts as the class.
    """

    n_images: int
    latent_max_abs: float
    latent_max_value: float
    latent_cosine: float
    mean_cosine: float
    feature_max_abs: float
    feature_cosine: float
    top1_agreement: float


def reference_features(backbone: Backbone, folded: Backbone, x: np.ndarray) -> torch.Tensor:
    """Run the network as its author gave it, and check that our blocks return the same.

    Args:
        backbone: the network.
        folded: the same with BatchNorm folded, which will be exported.
        x: (n, 3, H, W) float32 inputs.

    Returns:
        (n, D) float32 features of the network.

    Raises:
        BackboneError: the network fails on real images, or returns values that are not finite.
        BundleError: our blocks return something else.
    """
    whole = backbone.blocks if backbone.reference is None else backbone.reference
    images = torch.from_numpy(x)
    try:
        with torch.no_grad():
            features = whole(images)
            if isinstance(features, torch.Tensor) and features.ndim == 4:
                features = features.mean((2, 3))  # as the block `pool` does
            ours = folded.blocks(images)
    except Exception as error:  # the user's code may raise anything
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise BackboneError(f"{backbone.name} fails on {len(x)} images ({reason})") from error
    same = isinstance(features, torch.Tensor) and features.shape == ours.shape
    if same and not torch.isfinite(features).all():
        raise BackboneError(
            f"{backbone.name} returns NaN or infinity for real images; check its weights and the "
            "preprocessing that it was trained with"
        )
    if not same or _relative_difference(ours, features) > PARITY_LIMITS["fp32"].relative_error:
        raise BundleError(
            f"the blocks of {backbone.name}, one after another, do not match the network that was "
            f"given; nothing was written; {_where_it_differs(backbone, folded, images)}"
        )
    return features


def _relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two tensors, as a share of the largest value of `b`."""
    return float((a - b).abs().max()) / max(float(b.abs().max()), 1e-6)


def _where_it_differs(backbone: Backbone, folded: Backbone, x: torch.Tensor) -> str:
    """Name the block that BatchNorm folding changes, or say that the forward pass is another."""
    pairs = zip(named_blocks(backbone.blocks), named_blocks(folded.blocks), strict=True)
    with torch.no_grad():
        for (name, block), (_, ours) in pairs:
            expected = block(x)
            if _relative_difference(ours(x), expected) > PARITY_LIMITS["fp32"].relative_error:
                norm = any(isinstance(m, _NormBase) for m in block.modules())
                return (
                    f"block {name!r} runs its BatchNorm in another order than its __init__ makes "
                    "it; make each BatchNorm right after the layer that it follows"
                    if norm
                    else f"block {name!r} does not return the same twice"
                )
            x = expected
    return (
        "look for a forward() or hooks of its own, or for a layer that depends on the batch, and "
        "put what they do into a block"
    )


def compare(
    backbone: Backbone, cut: str, files: dict[str, bytes], x: np.ndarray, features: torch.Tensor
) -> tuple[ExportReport, np.ndarray]:
    """Compare the exported parts, run as on a board, with the original network in PyTorch.

    Returns:
        report: the differences.
        latents: (n, *latent shape) float32 of PyTorch.
    """
    frozen, _ = split(backbone, cut)
    with torch.no_grad():
        latents = frozen(torch.from_numpy(x)).numpy()
    reference = _top1(backbone, features)
    frozen_engine = OnnxEngine(files["frozen.onnx"])
    adaptive_engine = OnnxEngine(files["adaptive.onnx"])
    ours = _in_batches(frozen_engine, x)
    ours_features = torch.from_numpy(_in_batches(adaptive_engine, ours))
    similar = cosines(ours, latents)
    report = ExportReport(
        n_images=len(x),
        latent_max_abs=float(np.abs(ours - latents).max()),
        latent_max_value=float(np.abs(latents).max()),
        latent_cosine=float(similar.min()),
        mean_cosine=float(similar.mean()),
        feature_max_abs=float((ours_features - features).abs().max()),
        feature_cosine=float(cosines(ours_features.numpy(), features.numpy()).min()),
        top1_agreement=float((_top1(backbone, ours_features) == reference).float().mean()),
    )
    return report, latents


def _in_batches(engine: OnnxEngine, x: np.ndarray) -> np.ndarray:
    """Run a part on one sample, then on several at once, but never on all that PyTorch was given.

    So a layer whose output for an image depends on the others in its batch is found.
    """
    starts = [0, *range(1, len(x), _PARITY_BATCH)]
    batches = [x[a:b] for a, b in zip(starts, [*starts[1:], len(x)], strict=True)]
    return np.concatenate([engine.run(batch)[0] for batch in batches])


def _top1(backbone: Backbone, features: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        scores = backbone.classifier(features) if backbone.classifier is not None else features
        return scores.argmax(1)


def check_parity(report: ExportReport, precision: str) -> None:
    """Raise a BundleError if the exported parts differ too much from PyTorch."""
    limits = PARITY_LIMITS[precision]
    limit = limits.relative_error * max(report.latent_max_value, 1e-6)
    checks = {
        f"latents differ by up to {report.latent_max_abs:.2g}": report.latent_max_abs <= limit,
        f"latent cosine is {report.latent_cosine:.6f}": report.latent_cosine >= limits.cosine,
        f"feature cosine is {report.feature_cosine:.6f}": (
            report.feature_cosine >= limits.feature_cosine
        ),
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
