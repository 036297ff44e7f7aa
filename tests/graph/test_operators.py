"""Each operator against ONNX Runtime, and its gradients against finite differences."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from plr_edge.errors import GraphError
from plr_edge.graph.module import GraphModule
from plr_edge.graph.operators import OPERATORS, unsupported
from plr_edge.graph.reading import read_graph
from tests.graph.operator_cases import CASES, Case, f32, i64, w

_MADE_BY_OTHERS = {"And", "Not", "Or", "ConstantOfShape", "GreaterOrEqual", "LessOrEqual", "Range",
                   "Swish", "Where", "plr_edge.Linear"}  # fmt: skip


def by_runtime(model: bytes, inputs: list[np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options)
    return session.run(None, {f"x{i}": x for i, x in enumerate(inputs)})


def outputs_of(module: GraphModule, inputs: list[np.ndarray]) -> list[torch.Tensor]:
    found = module(*(torch.from_numpy(x) for x in inputs))
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operator_returns_what_onnx_runtime_returns(case: Case):
    inputs, model = case.inputs(np.random.default_rng(0)), case.model()
    ours = outputs_of(GraphModule(read_graph(model)), inputs)
    theirs = by_runtime(model, inputs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert tuple(a.shape) == b.shape and np.dtype(str(a.dtype).split(".")[1]) == b.dtype
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", [c for c in CASES if c.smooth], ids=lambda case: case.name)
def test_gradients_are_those_of_finite_differences(case: Case):
    module = GraphModule(read_graph(case.model())).double()
    inputs = [torch.from_numpy(x).double().requires_grad_() for x in
              case.inputs(np.random.default_rng(0))]  # fmt: skip
    weights = [p for p in module.parameters() if p.dtype == torch.float64]

    def run(*_: torch.Tensor) -> torch.Tensor:
        return module(*inputs)

    assert torch.autograd.gradcheck(run, (*inputs, *weights), eps=1e-5, atol=1e-4, fast_mode=True)


def test_every_operator_has_a_case():
    tried = {f"{c.domain}.{c.op}".lstrip(".") for c in CASES}
    assert set(OPERATORS) - tried == _MADE_BY_OTHERS


def chain(nodes, shape, constants=None, opset=18) -> bytes:
    """Return a model of several nodes from x0 to y0."""
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(
        [helper.make_node(op, takes, makes, **more) for op, takes, makes, more in nodes], "g",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)], stored,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


CHAINS = {
    "the shape is computed from the input": chain(
        [("Shape", ["x0"], ["s"], {}), ("Gather", ["s", "zero"], ["n"], {"axis": 0}),
         ("Concat", ["n", "rest"], ["new"], {"axis": 0}), ("Reshape", ["x0", "new"], ["y0"], {})],
        ["n", 4, 6], {"zero": i64(0), "rest": i64(-1)},
    ),
    "a mask is made of a range": chain(
        [("Range", ["a", "b", "c"], ["r"], {}), ("LessOrEqual", ["r", "c2"], ["low"], {}),
         ("GreaterOrEqual", ["r", "c"], ["high"], {}), ("And", ["low", "high"], ["in"], {}),
         ("Not", ["in"], ["out"], {}), ("Or", ["out", "in"], ["all"], {}),
         ("And", ["all", "in"], ["mask"], {}), ("Where", ["mask", "x0", "v"], ["y0"], {})],
        ["n", 4, 6], {"a": np.int64(0), "b": np.int64(6), "c": np.int64(1), "c2": np.int64(3),
                      "v": np.float32(-7)},
    ),
    "zeros of a computed shape are added": chain(
        [("Shape", ["x0"], ["s"], {}), ("ConstantOfShape", ["s"], ["o"],
          {"value": numpy_helper.from_array(f32(1.5))}), ("Add", ["x0", "o"], ["y0"], {})],
        ["n", 4, 6],
    ),
    "weights are transposed before they are used": chain(
        [("Transpose", ["weight"], ["t"], {"perm": [1, 0]}), ("MatMul", ["x0", "t"], ["y0"], {})],
        ["n", 4, 6], {"weight": w(3, 6)},
    ),
    "a weight is a node": chain(
        [("Constant", [], ["weight"], {"value": numpy_helper.from_array(w(6))}),
         ("Constant", [], ["two"], {"value_float": 2.0}), ("Mul", ["x0", "weight"], ["a"], {}),
         ("Mul", ["a", "two"], ["y0"], {})], ["n", 4, 6],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("n", [1, 3])
def test_nodes_that_compute_shapes(name, n):
    x = np.random.default_rng(0).standard_normal((n, 4, 6)).astype(np.float32)
    module = GraphModule(read_graph(CHAINS[name]))
    (ours,), (theirs,) = outputs_of(module, [x]), by_runtime(CHAINS[name], [x])
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(60))
def test_a_convolution_or_pool_of_random_settings(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))  # spatial axes
    op = str(rng.choice(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]))
    kernel = [int(k) for k in rng.integers(1, 4, n)]
    shape = (2, 4, *(int(s) for s in rng.integers(7, 10, n)))
    attributes = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 4, n)]}
    attributes["pads"] = [int(rng.integers(0, k)) for k in kernel * 2]
    if op != "AveragePool":
        attributes["dilations"] = [int(d) for d in rng.integers(1, 3, n)]
    if op.startswith("Conv"):
        groups = int(rng.choice([1, 2, 4]))
        attributes["group"] = groups
        constants = [w(4, (4 if op == "Conv" else 8) // groups, *kernel)]
        constants += [w(4 if op == "Conv" else 8)] if rng.random() < 0.5 else []
    else:
        constants = []
    if op == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(0, 2))
    case = Case(op, [shape], constants, attributes)
    inputs, model = case.inputs(rng), case.model()
    (ours,), (theirs,) = outputs_of(GraphModule(read_graph(model)), inputs), by_runtime(
        model, inputs)  # fmt: skip
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (Case("LSTM", [(5, 2, 4)], [w(1, 12, 4), w(1, 12, 3)], {"hidden_size": 3}), "LSTM"),
        (Case("BatchNormalization", [(2, 4)], [w(4)] * 4, {"training_mode": 1}), "training_mode"),
        (Case("Resize", [(1, 1, 4, 4)], [None, f32(1, 1, 2, 2)], {"mode": "cubic"}), "cubic"),
        (Case("Pad", [(2, 4)], [i64(1, 1, 1, 1)], {"mode": "mirror"}), "mirror"),
        (Case("Conv", [(1, 1, 4, 4)], [w(1, 1, 2, 2)], {"auto_pad": "SOME"}), "auto_pad"),
    ],
    ids=lambda value: value.op if isinstance(value, Case) else value,
)
def test_what_cannot_be_run_is_named(case, said):
    graph = read_graph(case.model())
    assert any(said in what for what in unsupported(graph))
    with pytest.raises(GraphError, match=said):
        GraphModule(graph)
