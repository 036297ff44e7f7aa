"""The adaptive part of a bundle as PyTorch modules. Needs torch, not onnx."""

from __future__ import annotations

import logging

from torch import nn

from plr_edge.backbones import BACKBONES, load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import BundleError
from plr_edge.export.split import split
from plr_edge.tensors import read_tensors


def adaptive_blocks(bundle: Bundle, *, allow_code: bool = False) -> nn.Sequential:
    """Build the adaptive part of a bundle, with the weights it was exported with.

    Args:
        bundle: the bundle.
        allow_code: import the code that an unsigned bundle names as its backbone.

    Returns:
        The blocks above the cut, with BatchNorm folded.

    Raises:
        BundleError: the backbone is a user's own code, and the bundle is not trusted; or the code
            is not that of the export.
    """
    check_code(bundle, allow_code)
    import torch

    level = logging.getLogger("plr_edge.backbones").level
    logging.getLogger("plr_edge.backbones").setLevel(logging.ERROR)  # random weights are replaced
    try:
        backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
    finally:
        logging.getLogger("plr_edge.backbones").setLevel(level)
    backbone.blocks = fold_batch_norm(backbone.blocks)
    _, adaptive = split(backbone, bundle.manifest["cut"])
    arrays = read_tensors(bundle.read("adaptive.safetensors"))
    try:
        adaptive.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{bundle.manifest['backbone']} now returns another network than the one in "
            f"{bundle.path} ({reason}); restore its code, or export it again"
        ) from None
    return adaptive.requires_grad_(True)  # the cut alone decides what is frozen


def check_code(bundle: Bundle, allow_code: bool = False) -> None:
    """Refuse an untrusted bundle whose backbone is code that would be imported.

    Args:
        bundle: the bundle.
        allow_code: accept it even if it is not signed.

    Raises:
        BundleError: the bundle names code, and is neither trusted nor allowed.
    """
    name = bundle.manifest["backbone"]
    if name not in BACKBONES and not (allow_code or bundle.trusted):
        raise BundleError(
            f"{bundle.path} wants to import code ({name[:60]}); if you trust it, add --allow-code, "
            "or sign it and add --trust"
        )
