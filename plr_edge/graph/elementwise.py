"""Operators that work value by value, and those that reduce axes. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch.nn import functional

from plr_edge.graph.call import Call, Run, ints_of

_LARGE = 3.0e38
_TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip


def _plain(function: Run) -> Callable[[Call], Run]:
    """Return an operator without settings."""
    return lambda call: function


def _folded(function: Run) -> Callable[[Call], Run]:
    """Return an operator that joins any number of inputs, two at a time."""
    return lambda call: lambda *inputs: reduce(function, inputs)


def _div(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _pow(call: Call) -> Run:
    exponent = call.constant(1)
    if exponent is None or exponent.size != 1:
        return torch.pow
    number = float(exponent.reshape(-1)[0])
    return lambda x, _: torch.pow(x, number)


def _clip(call: Call) -> Run:
    low, high = call.number(1, "min"), call.number(2, "max")
    low = None if low is not None and low < -_LARGE else low
    high = None if high is not None and high > _LARGE else high
    if low == 0.0 and high is None:
        return lambda x, *_: functional.relu(x)
    if low is None or high is None:
        return lambda x, *_: x if low is high else torch.clamp(x, low, high)

    def run(x: torch.Tensor, *_: Any) -> torch.Tensor:
        if x.is_floating_point():
            return functional.hardtanh(x, low, high)  # the gradient of ReLU6 at its bounds is zero
        return torch.clamp(x, int(low), int(high))

    return run


def _cast(call: Call) -> Run:
    dtype = _TYPES.get(call.get("to", 0))
    if dtype is None:
        raise call.refuses(f"the type {call.get('to')}")
    if dtype != torch.float32:
        return lambda x: x.to(dtype)
    # a module in float64, as when gradients are checked, stays in float64
    return lambda x: x if x.is_floating_point() and x.dtype == torch.float64 else x.to(dtype)


def _gelu(call: Call) -> Run:
    approximate = call.get("approximate", "none")
    return lambda x: functional.gelu(x, approximate=approximate)


def _softmax(function: Run) -> Callable[[Call], Run]:
    def build(call: Call) -> Run:
        if call.opset >= 13:
            axis = call.get("axis", -1)
            return lambda x: function(x, axis)
        first = call.get("axis", 1)  # before opset 13 over all axes from this one on

        def run(x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(function(x.flatten(first % x.ndim), -1)).reshape(x.shape)

        return run

    return build


def _swish(call: Call) -> Run:
    alpha = call.get("alpha", 1.0)
    return functional.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


def _prelu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return torch.where(x < 0, slope * x, x)


def _hard_sigmoid(call: Call) -> Run:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


def _with(function: Run, **settings: float) -> Callable[[Call], Run]:
    """Return an operator whose settings are numbers, with their defaults."""

    def build(call: Call) -> Run:
        values = [float(call.get(name, default)) for name, default in settings.items()]
        return lambda x: function(x, *values)

    return build


def _selu(x: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    return gamma * functional.elu(x, alpha)


def _reduce(function: Run) -> Callable[[Call], Run]:
    """Return an operator over axes, which are an attribute, or an input in newer opsets."""

    def build(call: Call) -> Run:
        fixed, keep = call.ints(1, "axes"), bool(call.get("keepdims", 1))
        nothing = bool(call.get("noop_with_empty_axes", 0))

        def run(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
            axes = ints_of(fixed, given)
            if not axes and nothing:
                return x
            return torch.as_tensor(function(x, axes or list(range(x.ndim)), keep))

        return run

    return build


def _prod(x: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _norm(order: int) -> Run:
    return lambda x, axes, keep: torch.linalg.vector_norm(x, order, axes, keep)


def _lp_normalization(call: Call) -> Run:
    axis, order = call.get("axis", -1), call.get("p", 2)
    return lambda x: functional.normalize(x, p=order, dim=axis)


def _arg_max(call: Call) -> Run:
    if call.get("select_last_index", 0):
        raise call.refuses("select_last_index")
    axis, keep = call.get("axis", 0), bool(call.get("keepdims", 1))
    return lambda x: torch.argmax(x, axis, keepdim=keep)


ELEMENTWISE: dict[str, Callable[[Call], Run]] = {
    "Abs": _plain(torch.abs), "Add": _plain(torch.add), "And": _plain(torch.logical_and),
    "ArgMax": _arg_max, "Cast": _cast, "Ceil": _plain(torch.ceil),
    "Celu": _with(functional.celu, alpha=1.0),
    "Clip": _clip, "Cos": _plain(torch.cos), "Div": _plain(_div),
    "Elu": _with(functional.elu, alpha=1.0), "Equal": _plain(torch.eq), "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp), "Floor": _plain(torch.floor), "Gelu": _gelu,
    "com.microsoft.Gelu": _gelu, "Greater": _plain(torch.gt), "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid, "HardSwish": _plain(functional.hardswish),
    "Identity": _plain(lambda x: x), "LeakyRelu": _with(functional.leaky_relu, alpha=0.01),
    "Less": _plain(torch.lt), "LessOrEqual": _plain(torch.le), "Log": _plain(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax), "LpNormalization": _lp_normalization,
    "Max": _folded(torch.maximum), "Min": _folded(torch.minimum),
    "Mish": _plain(functional.mish), "Mul": _plain(torch.mul), "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not), "Or": _plain(torch.logical_or), "Pow": _pow,
    "PRelu": _plain(_prelu), "Reciprocal": _plain(torch.reciprocal),
    "ReduceL1": _reduce(_norm(1)), "ReduceL2": _reduce(_norm(2)),
    "ReduceLogSumExp": _reduce(torch.logsumexp), "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean), "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(_prod), "ReduceSum": _reduce(torch.sum),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: x.square().sum(axes, keep)),
    "Relu": _plain(functional.relu), "Round": _plain(torch.round),
    "Selu": _with(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Sigmoid": _plain(torch.sigmoid), "Sign": _plain(torch.sign), "Sin": _plain(torch.sin),
    "Softmax": _softmax(torch.softmax), "Softplus": _plain(functional.softplus),
    "Softsign": _plain(functional.softsign), "Sqrt": _plain(torch.sqrt), "Sub": _plain(torch.sub),
    "Sum": _folded(torch.add),
    "Swish": _swish,
    "Tanh": _plain(torch.tanh), "Where": _plain(torch.where),
    "ThresholdedRelu": _with(lambda x, alpha: torch.where(x > alpha, x, 0.0), alpha=1.0),
}  # fmt: skip
