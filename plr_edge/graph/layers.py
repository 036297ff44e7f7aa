"""Operators with weights, pools and normalisations. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from plr_edge.graph.call import Call, Run
from plr_edge.graph.fusing import LINEAR

_CONV: dict[int, Run] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: dict[int, Run] = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d,
                               3: functional.conv_transpose3d}  # fmt: skip
_MAX: dict[int, Run] = {1: functional.max_pool1d, 2: functional.max_pool2d,
                        3: functional.max_pool3d}  # fmt: skip
_MEAN: dict[int, Run] = {1: functional.avg_pool1d, 2: functional.avg_pool2d,
                         3: functional.avg_pool3d}  # fmt: skip


class _Windows:
    """Strides, dilations and padding of an operator whose windows move over the spatial axes."""

    def __init__(self, call: Call) -> None:
        self.auto = call.get("auto_pad", "NOTSET")
        if self.auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise call.refuses(f"auto_pad {self.auto!r}")
        self._strides, self._dilations = call.get("strides"), call.get("dilations")
        self._pads = call.get("pads") if self.auto == "NOTSET" else None

    def strides(self, n: int) -> list[int]:
        """Return the stride along each of n axes."""
        return self._strides or [1] * n

    def dilations(self, n: int) -> list[int]:
        """Return the distance of the places in a window along each of n axes."""
        return self._dilations or [1] * n

    def pads(self, sizes: torch.Size, kernel: list[int]) -> tuple[list[int], list[int]]:
        """Return the padding before and behind each axis of a map with these sizes."""
        n = len(kernel)
        if not self.auto.startswith("SAME"):
            pads = self._pads or [0] * (2 * n)
            return pads[:n], pads[n:]
        first, last = [], []
        for size, stride, k, d in zip(
            sizes, self.strides(n), kernel, self.dilations(n), strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + (k - 1) * d + 1 - size, 0)
            less, more = total // 2, total - total // 2
            first.append(less if self.auto == "SAME_UPPER" else more)
            last.append(more if self.auto == "SAME_UPPER" else less)
        return first, last


def padded(x: torch.Tensor, first: list[int], last: list[int], value: float = 0.0) -> torch.Tensor:
    """Return a map with padding before and behind each spatial axis."""
    pairs = [n for pair in zip(reversed(first), reversed(last), strict=True) for n in pair]
    return functional.pad(x, pairs, value=value) if any(pairs) else x


def _conv(call: Call) -> Run:
    windows, groups = _Windows(call), call.get("group", 1)

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        n = weight.ndim - 2
        first, last = windows.pads(x.shape[2:], list(weight.shape[2:]))
        if first != last:
            x, first = padded(x, first, last), [0] * n
        return _CONV[n](x, weight, bias, windows.strides(n), first, windows.dilations(n), groups)

    return run


def _conv_transpose(call: Call) -> Run:
    windows, groups = _Windows(call), call.get("group", 1)
    if call.get("output_shape") or windows.auto != "NOTSET":
        raise call.refuses("output_shape or auto_pad")

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        n = weight.ndim - 2
        extra = call.get("output_padding") or [0] * n
        first, last = windows.pads(x.shape[2:], list(weight.shape[2:]))
        even = first == last
        y = _TRANSPOSED[n](
            x, weight, bias, windows.strides(n), first if even else 0, extra, groups,
            windows.dilations(n),
        )  # fmt: skip
        return y if even else padded(y, [-k for k in first], [-k for k in last])

    return run


def _gemm(call: Call) -> Run:
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    swap_a, swap_b = call.get("transA", 0), call.get("transB", 0)

    def run(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        a, b = a.T if swap_a else a, b if swap_b else b.T
        bias = c if c is None or beta == 1.0 else beta * c
        if alpha == 1.0 and (bias is None or bias.shape == b.shape[:1]):
            return functional.linear(a, b, bias)
        product = functional.linear(a, b) * alpha
        return product if bias is None else product + bias

    return run


def _linear(call: Call) -> Run:
    return lambda x, weight, bias: functional.linear(x, weight.t(), bias)


def _max_pool(call: Call) -> Run:
    windows, kernel = _Windows(call), call.get("kernel_shape")
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        raise call.refuses("its second output")
    ceil = bool(call.get("ceil_mode", 0))

    def run(x: torch.Tensor) -> Any:
        n = len(kernel)
        first, last = windows.pads(x.shape[2:], kernel)
        if first != last or any(2 * p > k for p, k in zip(first, kernel, strict=True)):
            x, first = padded(x, first, last, -math.inf), [0] * n
        return _MAX[n](x, kernel, windows.strides(n), first, windows.dilations(n), ceil)

    return run


def _average_pool(call: Call) -> Run:
    windows, kernel = _Windows(call), call.get("kernel_shape")
    ceil, whole = bool(call.get("ceil_mode", 0)), bool(call.get("count_include_pad", 0))
    if any(d != 1 for d in call.get("dilations") or []):
        raise call.refuses("dilations")

    def run(x: torch.Tensor) -> Any:
        n = len(kernel)
        strides = windows.strides(n)
        first, last = windows.pads(x.shape[2:], kernel)
        pool = _MEAN[n]
        if first == last and all(2 * p <= k for p, k in zip(first, kernel, strict=True)):
            return pool(x, kernel, strides, first, ceil, whole)
        average = pool(padded(x, first, last), kernel, strides, 0, ceil)
        if whole:
            return average
        return average / pool(padded(torch.ones_like(x), first, last), kernel, strides, 0, ceil)

    return run


def _global(function: Run) -> Callable[[Call], Run]:
    """Return a pool over all spatial axes."""
    return lambda call: lambda x: function(x, list(range(2, x.ndim)), True)


def _batch_norm(call: Call) -> Run:
    epsilon = call.get("epsilon", 1e-5)
    if call.get("training_mode", 0) or len(list(filter(None, call.node.outputs))) > 1:
        raise call.refuses("training_mode; export the network in eval mode")

    def run(x: torch.Tensor, scale: Any, bias: Any, mean: Any, variance: Any) -> torch.Tensor:
        return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)

    return run


def _layer_norm(call: Call) -> Run:
    axis, epsilon = call.get("axis", -1), call.get("epsilon", 1e-5)
    if len(list(filter(None, call.node.outputs))) > 1:
        raise call.refuses("its mean as an output")

    def run(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        shape = x.shape[axis % x.ndim :]
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return functional.layer_norm(x, shape, scale, bias, epsilon)
        y = functional.layer_norm(x, shape, eps=epsilon) * scale
        return y if bias is None else y + bias

    return run


def _instance_norm(call: Call) -> Run:
    epsilon = call.get("epsilon", 1e-5)
    return lambda x, scale, bias: functional.instance_norm(
        x, weight=scale, bias=bias, use_input_stats=True, eps=epsilon
    )


def _group_norm(call: Call) -> Run:
    groups, epsilon = call.get("num_groups"), call.get("epsilon", 1e-5)

    def run(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        n_channels = x.shape[1]
        if len(scale) != n_channels:  # before opset 21 one for each group
            scale = scale.repeat_interleave(n_channels // groups)
            bias = bias.repeat_interleave(n_channels // groups)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return run


def _einsum(call: Call) -> Run:
    equation = call.get("equation")
    return lambda *inputs: torch.einsum(equation, *inputs)


def _dropout(call: Call) -> Run:
    if len(list(filter(None, call.node.outputs))) > 1:
        raise call.refuses("its mask as an output")
    return lambda x, *_: x


LAYERS: dict[str, Callable[[Call], Run]] = {
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm, "Conv": _conv,
    "ConvTranspose": _conv_transpose, "Dropout": _dropout, "Einsum": _einsum, "Gemm": _gemm,
    "GlobalAveragePool": _global(torch.mean), "GlobalMaxPool": _global(torch.amax),
    "GroupNormalization": _group_norm, "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm, "MatMul": lambda call: torch.matmul, "MaxPool": _max_pool,
    LINEAR: _linear,
}  # fmt: skip
