"""The frozen part of a bundle in float32, as before it was quantised. Needs torch, not onnx."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from plr_edge.backbones import BACKBONES, load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import BundleError
from plr_edge.export.split import split


def float_part(bundle: Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """Build the frozen part again from the backbone and its weights.

    Args:
        bundle: the bundle. It holds the weights of the adaptive part in float32, which show whether
            the weights are those it was exported with.

    Returns:
        A function from images (n, 3, S, S) float32 to latents (n, *latent shape) float32.

    Raises:
        BundleError: the weights are others, or the network is not a built-in one.
    """
    name = bundle.manifest["backbone"]
    if name not in BACKBONES:
        raise BundleError(
            f"{name[:60]} is not a built-in network; export it in fp32 too, and give that bundle "
            "with --float"
        )
    backbone = load_backbone(name, input_size=bundle.preprocessing.size)
    backbone.blocks = fold_batch_norm(backbone.blocks)
    frozen, adaptive = split(backbone, bundle.manifest["cut"])
    own, exported = adaptive.state_dict(), bundle.weights()
    same = own.keys() == exported.keys() and all(
        np.allclose(own[key].numpy(), exported[key], rtol=1e-4, atol=1e-5) for key in own
    )
    if not same:
        raise BundleError(f"{name} has other weights here than those {bundle.path} was made with")
    frozen = frozen.eval()

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(frozen(torch.from_numpy(x)).numpy())

    return run
