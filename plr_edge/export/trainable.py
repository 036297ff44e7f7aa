"""What may lie above a cut: layers that the learner can train and adaptive.onnx can take."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from plr_edge.backbones.checks import is_channels_last
from plr_edge.errors import BackboneError, one_line
from plr_edge.graph.module import GraphBlocks, GraphModule

_REWRITTEN = (nn.GroupNorm, nn.PReLU, nn.RNNBase)  # split, reshaped or reordered by the exporter


def is_trainable(adaptive: nn.Module) -> bool:
    """Return whether any block has weights. If not, the classifier alone is trained."""
    return any(True for _ in adaptive.parameters())


def trouble_above(adaptive: nn.Module, latent_shape: tuple[int, ...]) -> str:
    """Say why an adaptive part cannot be used, or return an empty string.

    Args:
        adaptive: the blocks above the cut, with BatchNorm folded.
        latent_shape: shape of a latent.
    """
    if isinstance(adaptive, GraphBlocks):
        blocks = [block for block in adaptive if not isinstance(block, GraphModule)]
        return str(getattr(blocks[0], "trouble", "it")) if blocks else ""
    if len(latent_shape) not in (1, 3) or is_channels_last(latent_shape):
        return (
            f"the latent has shape {latent_shape}, and only a map (C, H, W) or a vector (D,) can "
            "be stored"
        )
    for name, module in adaptive.named_modules():
        if isinstance(module, _NormBase) and module.running_mean is not None:
            return (
                f"{name} above it is a {type(module).__name__} that does not directly follow a "
                "convolution or a linear layer, so it cannot be folded"
            )
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return (
                f"{name} above it is a {type(module).__name__} without running statistics, so that "
                "the output for an image would depend on the other images of the batch"
            )
        if isinstance(module, _REWRITTEN):
            return (
                f"{name} above it is a {type(module).__name__}, whose weights the ONNX exporter "
                "rewrites, so that they could not be exchanged on the robot"
            )
    names: dict[int, str] = {}
    for name, tensor in adaptive.state_dict().items():
        other = names.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if other != name:
            return f"{other} and {name} above it are one weight, and each must be its own"
        if tensor.dtype != torch.float32:
            dtype = str(tensor.dtype).removeprefix("torch.")
            return f"{name} above it is {dtype}, and only float32 weights can be exchanged"
    return ""


def check_gradients(backbone: str, adaptive: nn.Sequential, latents: torch.Tensor) -> None:
    """Check that training reaches every weight of an adaptive part.

    Args:
        backbone: name of the network, for the message.
        adaptive: a copy of the blocks above the cut, whose weights all require gradients.
        latents: (B, ...) float32 latents to try it on.

    Raises:
        BackboneError: a weight takes no part in the feature, or its gradient is cut off.
    """
    weights = dict(adaptive.named_parameters())
    if not weights:
        return
    try:
        with torch.enable_grad():
            feature = adaptive(latents).sum()
            reached = feature.requires_grad
            gradients = (
                torch.autograd.grad(feature, list(weights.values()), allow_unused=True)
                if reached
                else [None] * len(weights)
            )
    except Exception as error:  # the user's code may raise anything
        reason = one_line(error, 200)
        raise BackboneError(
            f"the blocks of {backbone} above the cut cannot be trained ({reason}); leave out "
            "inplace operations there, or cut later"
        ) from error
    lost = [name for name, one in zip(weights, gradients, strict=True) if one is None]
    if lost:
        raise BackboneError(
            f"training cannot reach {len(lost)} weights of {backbone} above the cut, the first is "
            f"{lost[0]!r}: it is not used, or detach() or torch.no_grad() lies above it; remove "
            "that, or cut later"
        )
