"""Which windows of the latent maps an adaptive part can be trained on, and at what cost.

A network may rely on the size of its maps, e.g. by padding that depends on it. So every window is
tried in PyTorch and in ONNX Runtime, and is offered only if both give the same.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from plr_edge.bundle.bundle import with_input_side
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import EngineError
from plr_edge.replay.schedule import Level
from plr_edge.replay.window import central

_LARGEST_BYTE = 127  # dimensions up to this take one byte in a serialised model
_MANY = 8  # of maps with more rows, only the window of half the side is tried
_N = 4  # latents to compare
_TOLERANCE = 1e-3


def windows_of(
    adaptive: nn.Sequential,
    levels: tuple[Level, ...],
    template: bytes,
    latents: np.ndarray,
    axes: str = "CHW",
) -> dict[str, Any]:
    """Return the entries of the manifest that tell which windows can be used.

    Args:
        adaptive: the blocks above the cut.
        levels: their levels, for whole latents.
        template: adaptive.onnx with the weights of the blocks.
        latents: (n, *latent shape) float32, to compare with.
        axes: what the axes of a latent mean. Only maps with channels first have windows.

    Returns:
        `input_side_at`, the offsets of rows and columns of the input in the template, and
        `windows`, the levels of each side. Both are empty if there is none.
    """
    shape = levels[0].shape
    nothing: dict[str, Any] = {"input_side_at": [], "windows": {}}
    if axes != "CHW" or len(shape) != 3 or shape[1] != shape[2]:
        return nothing
    if not 2 <= shape[1] <= _LARGEST_BYTE:
        return nothing
    side = shape[1]
    at = _input_side_at(template, side)
    half = -(-side // 2)
    sides = [s for s in range(1, side) if s >= half or s >= 2] if side <= _MANY else [half]
    windows = {}
    for one in sides:
        own = _levels_of_window(adaptive, levels, central(latents[:_N], one), template, at)
        if own is not None:
            windows[str(one)] = [asdict(level) for level in own]
    return {"input_side_at": at, "windows": windows} if windows else nothing


def _input_side_at(template: bytes, side: int) -> list[int]:
    """Return where rows and columns of the input lie: where models of other sides differ."""
    model = onnx.load_from_string(template)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    offsets = []
    for axis in (2, 3):
        other = onnx.ModelProto()
        other.CopyFrom(model)
        other.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side - 1
        a = np.frombuffer(model.SerializeToString(), np.uint8)
        b = np.frombuffer(other.SerializeToString(), np.uint8)
        assert dims[axis].dim_value == side and len(a) == len(b) == len(template)
        offsets.append(int(np.flatnonzero(a != b)[0]))
    return offsets


def _levels_of_window(
    adaptive: nn.Sequential,
    levels: tuple[Level, ...],
    window: np.ndarray,
    template: bytes,
    at: list[int],
) -> tuple[Level, ...] | None:
    """Return the levels for a window (n, C, side, side). None if it cannot be used."""
    own = []
    x = torch.from_numpy(window)
    try:
        with torch.no_grad():
            for level, block in zip(levels, adaptive, strict=False):
                counter = FlopCounterMode(display=False)
                shape = tuple(x.shape[1:])
                with counter:
                    x = block(x)
                macs = counter.get_total_flops() // 2 // len(window)
                own.append(replace(level, shape=shape, macs=macs))
        engine = OnnxEngine(with_input_side(template, at, window.shape[2]))
        ours = np.concatenate([engine.run(window[:1])[0], engine.run(window[1:])[0]])
    except (EngineError, RuntimeError, ValueError, TypeError, IndexError):
        return None  # the network needs maps of the size that it was made for
    if x.shape != (len(window), levels[-1].width) or ours.shape != x.shape:
        return None
    difference = np.abs(ours - x.numpy()).max()
    if difference > _TOLERANCE * max(float(x.abs().max()), 1e-6):
        return None
    return (*own, levels[-1])
