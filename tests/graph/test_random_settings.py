"""Operators with shapes and settings drawn at random, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plr_edge.graph.module import GraphModule
from plr_edge.graph.reading import read_graph
from tests.graph.operator_cases import Case, i64, w
from tests.graph.test_operators import by_runtime, outputs_of


def _shape(rng, least=1):
    return tuple(int(n) for n in rng.integers(2, 7, int(rng.integers(least, 5))))


def _slice(rng):
    shape = _shape(rng)
    axes = rng.permutation(len(shape))[: int(rng.integers(1, len(shape) + 1))]
    steps = rng.choice([-2, -1, 1, 2, 3], len(axes))
    starts, ends = rng.integers(-9, 9, (2, len(axes)))
    given = [starts, ends, axes, steps]
    return Case("Slice", [shape], [np.array(a, np.int64) for a in given])


def _pad(rng):
    shape = _shape(rng)
    mode = str(rng.choice(["constant", "reflect", "edge"]))
    low = -1 if mode == "constant" else 0
    pads = [int(rng.integers(low, 2)) for _ in range(2 * len(shape))]
    return Case("Pad", [shape], [i64(*pads), np.float32(rng.normal())], {"mode": mode})


def _reduce(rng):
    shape = _shape(rng)
    op = str(rng.choice(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"]))
    n = int(rng.integers(1, len(shape) + 1))
    axes = rng.permutation(len(shape))[:n] - len(shape) * rng.integers(0, 2, n)
    keep = {"keepdims": int(rng.integers(0, 2))}
    if rng.random() < 0.5:
        return Case(op, [shape], [np.array(axes, np.int64)], keep)
    axes = [int(axis) % len(shape) for axis in axes]
    opset = 11
    return Case(op, [shape], attributes={"axes": axes, **keep}, opset=opset)


def _transpose(rng):
    shape = _shape(rng)
    return Case("Transpose", [shape], attributes={"perm": rng.permutation(len(shape)).tolist()})


def _softmax(rng):
    shape = _shape(rng)
    axis, opset = int(rng.integers(0, len(shape))), int(rng.choice([9, 11, 13, 18]))
    return Case("Softmax", [shape], attributes={"axis": axis}, opset=opset)


def _concat(rng):
    shape = _shape(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    other = list(shape)
    other[axis] = int(rng.integers(1, 5))
    return Case("Concat", [shape, tuple(other)], [w(*shape)], {"axis": axis})


def _split(rng):
    shape = _shape(rng)
    axis = int(rng.integers(0, len(shape)))
    first = int(rng.integers(1, shape[axis]))
    sizes = i64(first, shape[axis] - first)
    return Case("Split", [shape], [sizes], {"axis": axis}, n_outputs=2)


def _gather(rng):
    shape = _shape(rng)
    axis = int(rng.integers(0, len(shape)))
    n = shape[axis]
    indices = rng.integers(-n, n, tuple(rng.integers(1, 4, int(rng.integers(0, 3)))))
    return Case("Gather", [shape], [np.array(indices, np.int64)], {"axis": axis})


def _resize(rng):
    shape = (2, 3, *(int(n) for n in rng.integers(2, 7, 2)))
    sizes = i64(2, 3, *(int(n) for n in rng.integers(1, 12, 2)))
    mode = str(rng.choice(["nearest", "linear"]))
    where = str(rng.choice(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
    settings = {"mode": mode, "coordinate_transformation_mode": where}
    if mode == "nearest":
        settings["nearest_mode"] = str(rng.choice(["floor", "round_prefer_floor"]))
    return Case("Resize", [shape], [None, None, sizes], settings)


def _norm(rng):
    shape = _shape(rng, 2)
    axis = int(rng.integers(1, len(shape)))
    width = shape[axis:]
    return Case("LayerNormalization", [shape], [w(*width), w(*width, seed=1)], {"axis": axis})


def _gemm(rng):
    m, k, n = (int(x) for x in rng.integers(1, 7, 3))
    a, b = int(rng.integers(0, 2)), int(rng.integers(0, 2))
    bias = [[], [w(n)], [w(1, n)], [w(m, 1)], [w(1)], [np.float32(0.3)]][int(rng.integers(0, 6))]
    settings = {"transA": a, "transB": b, "alpha": float(rng.choice([1.0, 0.7])),
                "beta": float(rng.choice([1.0, 0.4]))}  # fmt: skip
    shape, weight = (k, m) if a else (m, k), w(n, k) if b else w(k, n)
    return Case("Gemm", [shape], [weight, *bias], settings)


def _matmul(rng):
    m, k, n = (int(x) for x in rng.integers(1, 6, 3))
    lead = tuple(int(x) for x in rng.integers(1, 4, int(rng.integers(0, 3))))
    other = lead if rng.random() < 0.5 else ()
    return Case("MatMul", [(*lead, m, k)], [w(*other, k, n)])


def _reshape(rng):
    shape = _shape(rng, 2)
    kept = int(rng.integers(0, len(shape)))
    new = [0] * kept + [-1] + ([1] if rng.random() < 0.5 else [])
    return Case("Reshape", [shape], [i64(*new)])


def _added(rng):
    shape = _shape(rng)
    other = [n if rng.random() < 0.6 else 1 for n in shape][int(rng.integers(0, len(shape))) :]
    return Case(str(rng.choice(["Add", "Sub", "Mul", "Div", "Max", "Min"])), [shape], [w(*other)])


MAKERS = {
    f.__name__[1:]: f
    for f in (
        _slice, _pad, _reduce, _transpose, _softmax, _concat, _split, _gather, _resize, _norm,
        _gemm, _matmul, _reshape, _added,
    )
}  # fmt: skip


@pytest.mark.parametrize("kind", MAKERS)
def test_an_operator_of_random_settings_returns_what_onnx_runtime_returns(kind):
    for seed in range(100):
        rng = np.random.default_rng([seed, list(MAKERS).index(kind)])
        case = MAKERS[kind](rng)
        inputs, model = case.inputs(rng), case.model()
        theirs = by_runtime(model, inputs)
        module = GraphModule(read_graph(model))
        for a, b in zip(outputs_of(module, inputs), theirs, strict=True):
            assert tuple(a.shape) == b.shape, (seed, case)
            np.testing.assert_allclose(
                a.detach().numpy(), b, rtol=3e-5, atol=3e-5, err_msg=f"{seed} {case}"
            )


@pytest.mark.parametrize("kind", MAKERS)
def test_an_operator_of_random_settings_has_the_gradients_of_finite_differences(kind):
    for seed in range(8):
        rng = np.random.default_rng([seed, list(MAKERS).index(kind)])
        case = MAKERS[kind](rng)
        module = GraphModule(read_graph(case.model())).double()
        inputs = [torch.from_numpy(x).double().requires_grad_() for x in case.inputs(rng)]
        weights = [p for p in module.parameters() if p.requires_grad]
        if any(y.numel() == 0 for y in outputs_of(module, [x.detach().numpy() for x in inputs])):
            continue  # an empty slice has no gradient
        assert gradients_agree(module, inputs, weights), (seed, case)


def gradients_agree(module, inputs, weights) -> bool:
    def run(*_: torch.Tensor):
        return module(*inputs)

    return torch.autograd.gradcheck(
        run, (*inputs, *weights), eps=1e-5, atol=1e-4, fast_mode=True
    )  # fmt: skip
