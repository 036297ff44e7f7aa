"""Chains of operators that are run as one: which they are, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plr_edge.graph import module as modules
from plr_edge.graph.fusing import fused
from plr_edge.graph.graph import Graph, Node
from plr_edge.graph.module import GraphModule
from tests.graph.operator_cases import w


def graph_of(text: str, outputs: str = "y", **constants) -> Graph:
    """Return the graph of lines such as `a = Add x k`."""
    nodes = []
    for line in text.split(";"):
        output, (op, *inputs) = line.split("=")[0].strip(), line.split("=")[1].split()
        nodes.append(Node(op=op, inputs=tuple(inputs), outputs=(output,)))
    given = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    return Graph(nodes=tuple(nodes), inputs=("x",), outputs=tuple(outputs.split()), constants=given)


ROOT, HALF, ONE = 2**0.5, 0.5, 1.0
NUMBERS = {"r": ROOT, "ir": 1 / ROOT, "h": HALF, "one": ONE}
ERF = "a = Div x r; b = Erf a; c = Add b one"
CHAINS = {
    "silu": ("s = Sigmoid x; y = Mul x s", ["Swish"]),
    "silu, swapped": ("s = Sigmoid x; y = Mul s x", ["Swish"]),
    "gelu, half before": (f"{ERF}; d = Mul h c; y = Mul x d", ["Gelu"]),
    "gelu, half before, swapped": (f"{ERF}; d = Mul c h; y = Mul d x", ["Gelu"]),
    "gelu, half at the end": (f"{ERF}; d = Mul x c; y = Mul d h", ["Gelu"]),
    "gelu, half at the end, swapped": (f"{ERF}; d = Mul c x; y = Mul h d", ["Gelu"]),
    "gelu, a product inside": (
        "a = Mul ir x; b = Erf a; c = Add one b; d = Mul x c; y = Mul d h", ["Gelu"]),
    "a linear layer": ("m = MatMul x k; y = Add m bias", ["plr_edge.Linear"]),
    "a linear layer, swapped": ("m = MatMul x k; y = Add bias m", ["plr_edge.Linear"]),
    "two of them and one more": (
        "m = MatMul x k; z = Add m bias; s = Sigmoid z; t = Mul z s; y = Relu t",
        ["plr_edge.Linear", "Swish", "Relu"]),
}  # fmt: skip
OTHERS = {
    "another half": f"{ERF}; d = Mul x c; y = Mul d r",
    "another root": "a = Div x h; b = Erf a; c = Add b one; d = Mul x c; y = Mul d h",
    "a root over the value": "a = Div r x; b = Erf a; c = Add b one; d = Mul x c; y = Mul d h",
    "another one": "a = Div x r; b = Erf a; c = Add b h; d = Mul x c; y = Mul d h",
    "another value is gated": f"{ERF}; z = Relu x; d = Mul z c; y = Mul d h",
    "a sigmoid of another value": "z = Relu x; s = Sigmoid z; y = Mul x s",
    "a gate that is used again": "s = Sigmoid x; m = Mul x s; y = Add m s",
    "a product that is used again": "m = MatMul x k; z = Add m bias; y = Add z m",
    "a bias of another width": "m = MatMul x k; y = Add m single",
    "a bias that is computed": "m = MatMul x k; z = Relu x; y = Add m z",
}
X = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))


def run_both(graph: Graph, monkeypatch) -> list[str]:
    """Check a module against one without fusing, gradients included; returns what it runs."""
    results = []
    for fusing in (fused, lambda graph: graph.nodes):
        monkeypatch.setattr(modules, "fused", fusing)
        module = GraphModule(graph).double()
        x = X.double().requires_grad_()
        y = module(x)
        y = y if isinstance(y, tuple) else (y,)
        wanted = [x, *module.parameters()]
        results.append([*y, *torch.autograd.grad(sum(one.square().sum() for one in y), wanted)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    return [node.op for node in fused(graph)]


def constants(**more):
    return {**NUMBERS, "k": w(6, 6), "bias": w(6), "single": np.ones(1), **more}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_run_as_one_and_returns_the_same(name, monkeypatch):
    text, ops = CHAINS[name]
    used = {k: v for k, v in constants().items() if k in text.replace(";", " ").split()}
    assert run_both(graph_of(text, **used), monkeypatch) == ops


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_such_chain_is_left_as_it_is(name, monkeypatch):
    text = OTHERS[name]
    used = {k: v for k, v in constants().items() if k in text.replace(";", " ").split()}
    graph = graph_of(text, **used)
    assert run_both(graph, monkeypatch) == [node.op for node in graph.nodes]


def test_a_value_that_is_an_output_is_still_made(monkeypatch):
    graph = graph_of("s = Sigmoid x; y = Mul x s", outputs="y s")
    assert run_both(graph, monkeypatch) == ["Sigmoid", "Mul"]
