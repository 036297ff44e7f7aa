"""Checks of a network that a user gave, while it runs block by block. Each failure is one line."""

from __future__ import annotations

import torch
from torch import nn

from plr_edge.errors import BackboneError, one_line

BATCH = 2  # one image alone would not show that a block ignores the batch axis


def run_block(backbone: str, name: str, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run one block, and check what it returns.

    Args:
        backbone: name of the network, for messages.
        name: name of the block.
        block: the block, in eval mode.
        x: (B, ...) float32 input.

    Returns:
        (B, ...) float32 output.

    Raises:
        BackboneError: the block fails, or does not return one float32 tensor of the same batch.
    """
    where, shape = f"block {name!r} of {backbone}", tuple(x.shape[1:])
    try:
        with torch.no_grad():
            output = block(x)
    except Exception as error:  # the user's code may raise anything
        raise BackboneError(
            f"{where} fails on an input of shape {shape}{_why(block, x, error)}"
        ) from error
    if not isinstance(output, torch.Tensor):
        raise BackboneError(
            f"{where} returns a {type(output).__name__}; a block must return one tensor: wrap it "
            "in a module that returns the part to go on with"
        )
    if output.dtype != torch.float32:
        raise BackboneError(
            f"{where} returns {str(output.dtype).removeprefix('torch.')}; a block must return "
            "float32"
        )
    if output.ndim < 2 or len(output) != len(x):
        raise BackboneError(
            f"{where} returns shape {tuple(output.shape)} for a batch of {len(x)} images; the "
            "first axis must be the batch: write x.flatten(1) instead of x.view(1, -1)"
        )
    return output


def check_feature(backbone: str, output: torch.Tensor) -> None:
    """Check that the last block returns a vector for each image.

    Raises:
        BackboneError: it returns something else.
    """
    if output.ndim == 2:
        return
    advice = "add a block that averages over height and width, such as SpatialMean"
    if output.ndim == 3:
        advice = "add a block that averages the tokens, x.mean(1), or takes one of them, x[:, 0]"
    raise BackboneError(
        f"the last block of {backbone} returns shape {tuple(output.shape[1:])} for an image; it "
        f"must return (B, D), a vector for each image: {advice}"
    )


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether a shape looks like (H, W, C). Maps of square images are square."""
    return len(shape) == 3 and shape[0] == shape[1] != shape[2]


def check_finite(backbone: str, *modules: nn.Module | None) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        BackboneError: one is.
    """
    for module in modules:
        for name, tensor in ({} if module is None else module.state_dict()).items():
            n_odd = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
            if n_odd:
                raise BackboneError(
                    f"weight {name!r} of {backbone} holds {n_odd} values that are not finite (NaN "
                    "or infinity); load weights from before the training that diverged"
                )


def _why(block: nn.Module, x: torch.Tensor, error: Exception) -> str:
    first = next((m for m in block.modules() if isinstance(m, nn.Conv2d)), None)
    reason = f" ({one_line(f'{type(error).__name__}: {error}', 150)})"
    if first is not None and x.ndim == 4 and first.in_channels != x.shape[1] == 3:
        return (
            f": it takes {first.in_channels} channels, and an image has 3; put a block in front "
            f"that turns 3 channels into {first.in_channels}"
        )
    if x.ndim == 4 and isinstance(error, RuntimeError):
        return f"{reason}; inputs are square images of 3 channels; try another --input-size"
    return f"{reason}; a block maps one float32 tensor to one float32 tensor"
