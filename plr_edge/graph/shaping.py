"""Operators that move values or make shapes: none of them computes with the values. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from plr_edge.graph.call import Call, Run, ints_of

_END = 1 << 62  # ONNX writes the largest integer for "to the end"


def _reshape(call: Call) -> Run:
    fixed, plain_zero = call.ints(1, "shape"), bool(call.get("allowzero", 0))

    def run(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        shape = ints_of(fixed, given)
        if not plain_zero:
            shape = [x.shape[at] if n == 0 else n for at, n in enumerate(shape)]
        return x.reshape(shape)

    return run


def _flatten(call: Call) -> Run:
    axis = call.get("axis", 1)

    def run(x: torch.Tensor) -> torch.Tensor:
        at = axis + x.ndim if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:at]), math.prod(x.shape[at:]))

    return run


def _transpose(call: Call) -> Run:
    order = call.get("perm")
    return lambda x: x.permute(order or list(range(x.ndim))[::-1])


def _concat(call: Call) -> Run:
    axis = call.get("axis", 0)
    return lambda *inputs: torch.cat(inputs, axis)


def _split(call: Call) -> Run:
    axis, fixed = call.get("axis", 0), call.ints(1, "split")
    n = call.get("num_outputs") or len(call.node.outputs)

    def run(x: torch.Tensor, given: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        sizes = ints_of(fixed, given)
        if not sizes:  # the last part is smaller if it does not come out even
            each = -(-x.shape[axis] // n)
            sizes = [each] * (n - 1) + [x.shape[axis] - each * (n - 1)]
        return torch.split(x, sizes, axis)

    return run


def _slice(call: Call) -> Run:
    fixed = [call.ints(at, name) for at, name in enumerate(("starts", "ends", "axes", "steps"), 1)]

    def run(x: torch.Tensor, *given: torch.Tensor | None) -> torch.Tensor:
        given = (*given, None, None, None, None)
        starts, ends, axes, steps = (ints_of(f, g) for f, g in zip(fixed, given, strict=False))
        axes, steps = axes or list(range(len(starts))), steps or [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step > 0:
                index = [slice(None)] * (axis % x.ndim) + [slice(start, min(end, _END), step)]
                x = x[tuple(index)]
            else:  # torch has no negative step
                n = x.shape[axis]
                first = min(max(start + n if start < 0 else start, 0), n - 1)
                last = min(max(end + n if end < 0 else end, -1), n - 1)
                places = torch.arange(first, last, step) if first > last else torch.arange(0)
                x = x.index_select(axis, places)
        return x

    return run


def _gather(call: Call) -> Run:
    axis = call.get("axis", 0)

    def run(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        at = axis % x.ndim
        if indices.ndim == 0 and indices.numel() == 1:
            return x.select(at, int(indices))
        chosen = torch.where(indices < 0, indices + x.shape[at], indices)
        shape = (*x.shape[:at], *indices.shape, *x.shape[at + 1 :])
        return x.index_select(at, chosen.reshape(-1)).reshape(shape)

    return run


def _gather_elements(call: Call) -> Run:
    axis = call.get("axis", 0)
    return lambda x, at: torch.gather(x, axis, torch.where(at < 0, at + x.shape[axis], at))


def _pad(call: Call) -> Run:
    mode, value = call.get("mode", "constant"), call.number(2, "value", 0.0)
    fixed, fixed_axes = call.ints(1, "pads"), call.ints(3)
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise call.refuses(f"mode {mode!r}")

    def run(x: torch.Tensor, *given: torch.Tensor | None) -> torch.Tensor:
        given = (*given, None, None, None)
        pads, axes = ints_of(fixed, given[0]), ints_of(fixed_axes, given[2])
        n = len(pads) // 2
        by_axis = {a % x.ndim: (pads[i], pads[i + n]) for i, a in enumerate(axes or range(n))}
        if mode == "constant" or any(min(pair) < 0 for pair in by_axis.values()):
            flat = [k for a in reversed(range(x.ndim)) for k in by_axis.get(a, (0, 0))]
            return functional.pad(x, flat, value=value)
        for axis, pair in by_axis.items():
            if any(pair):
                places = np.pad(np.arange(x.shape[axis]), pair, mode=mode)
                x = x.index_select(axis, torch.from_numpy(places))
        return x

    return run


def _squeeze(call: Call) -> Run:
    fixed = call.ints(1, "axes")

    def run(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        axes = [axis % x.ndim for axis in ints_of(fixed, given)]
        kept = [n for at, n in enumerate(x.shape) if (at not in axes if axes else n != 1)]
        return x.reshape(kept)

    return run


def _unsqueeze(call: Call) -> Run:
    fixed = call.ints(1, "axes")

    def run(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        axes = ints_of(fixed, given)
        n = x.ndim + len(axes)
        for axis in sorted(axis % n for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _shape(call: Call) -> Run:
    start, end = call.get("start", 0), call.get("end")
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def _expand(call: Call) -> Run:
    fixed = call.ints(1)

    def run(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return x.expand(np.broadcast_shapes(x.shape, tuple(ints_of(fixed, given))))

    return run


def _tile(call: Call) -> Run:
    fixed = call.ints(1)
    return lambda x, given: x.repeat(ints_of(fixed, given))


def _constant_of_shape(call: Call) -> Run:
    value, fixed = call.get("value"), call.ints(0)
    filling = torch.from_numpy(np.zeros(1, np.float32) if value is None else value.copy())
    return lambda given: filling.reshape(-1)[0].expand(ints_of(fixed, given)).clone()


def _range(call: Call) -> Run:
    return lambda start, end, step: torch.arange(
        start.item(), end.item(), step.item(), dtype=start.dtype
    )


def _depth_to_space(call: Call) -> Run:
    side, mode = call.get("blocksize"), call.get("mode", "DCR")

    def run(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        if mode == "CRD":
            return functional.pixel_shuffle(x, side)
        parts = x.reshape(n, side, side, c // side**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, c // side**2, h * side, w * side)

    return run


def _space_to_depth(call: Call) -> Run:
    side = call.get("blocksize")

    def run(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // side, side, w // side, side).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, c * side**2, h // side, w // side)

    return run


def _trilu(call: Call) -> Run:
    function: Run = torch.triu if call.get("upper", 1) else torch.tril

    def run(x: torch.Tensor, k: torch.Tensor | None = None) -> Any:
        return function(x, 0 if k is None else int(k))

    return run


SHAPING: dict[str, Callable[[Call], Run]] = {
    "Concat": _concat, "ConstantOfShape": _constant_of_shape, "DepthToSpace": _depth_to_space,
    "Expand": _expand, "Flatten": _flatten, "Gather": _gather, "GatherElements": _gather_elements,
    "Pad": _pad, "Range": _range, "Reshape": _reshape, "Shape": _shape,
    "Size": lambda call: lambda x: torch.tensor(x.numel()), "Slice": _slice,
    "SpaceToDepth": _space_to_depth, "Split": _split, "Squeeze": _squeeze, "Tile": _tile,
    "Transpose": _transpose, "Trilu": _trilu, "Unsqueeze": _unsqueeze,
}  # fmt: skip
