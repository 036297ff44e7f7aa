"""Cuts, segments and rewrites of graphs, and modules of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from plr_edge.errors import GraphError
from plr_edge.graph.graph import Graph, Node
from plr_edge.graph.levels import level_values
from plr_edge.graph.module import GraphBlocks, GraphModule
from plr_edge.graph.simplify import with_fixed_shapes, without_unused
from tests.graph.operator_cases import i64, w


def node(op, inputs, output, **attributes) -> Node:
    return Node(op=op, inputs=tuple(inputs.split()), outputs=(output,), attributes=attributes)


def residual() -> Graph:
    """x -> a -> relu b -> (c, d = b + c) -> pool e -> feature."""
    constants = {"one.weight": w(4, 3, 1, 1), "two.weight": w(4, 4, 1, 1), "three.weight": w(5, 4)}
    nodes = (
        node("Conv", "x one.weight", "a"), node("Relu", "a", "b"),
        node("Conv", "b two.weight", "c"), node("Add", "b c", "d"),
        node("GlobalAveragePool", "d", "e"), node("Flatten", "e", "f"),
        node("Gemm", "f three.weight", "y", transB=1),
    )  # fmt: skip
    return Graph(nodes=nodes, inputs=("x",), outputs=("y",), constants=constants)


X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_a_value_is_a_cut_if_everything_flows_through_it():
    assert residual().cut_values == ("a", "b", "d", "e", "f")  # not c: b goes around it


def test_a_value_that_is_used_again_is_a_cut_only_where_nothing_else_is():
    nodes = (node("Relu", "x", "a"), node("Exp", "a", "b"), node("Mul", "a b", "c"),
             node("Add", "x c", "y"))  # fmt: skip
    graph = Graph(nodes=nodes, inputs=("x",), outputs=("y",), constants={})
    assert graph.cut_values == ()  # x goes around all of them


@pytest.mark.parametrize("values", [(), ("a",), ("b", "d"), ("a", "b", "d", "e", "f")])
def test_segments_one_after_the_other_are_the_whole(values):
    graph, x = residual(), X
    for part in graph.segments(values):
        x = GraphModule(part)(x)
    assert torch.equal(x, GraphModule(graph)(X))


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [("c", "y", "also on 'x'"), ("d", "b", "also on 'x'"), ("x", "nowhere", "no value"),
     ("two.weight", "y", "no value")],
)  # fmt: skip
def test_a_segment_that_does_not_exist_is_refused(start, end, said):
    with pytest.raises(GraphError, match=said):
        residual().segment(start, end)


def test_names_can_be_changed():
    graph = residual().renamed({"x": "latent", "y": "feature", "two.weight": "w2"})
    assert (graph.inputs, graph.outputs) == (("latent",), ("feature",)) and "w2" in graph.weights
    assert torch.equal(GraphModule(graph)(X), GraphModule(residual())(X))


def by_batch(*tail: Node, constants=None) -> Graph:
    """A channel shuffle whose batch size an exporter computed from the input."""
    nodes = (
        node("Shape", "x", "n", start=0, end=1), node("Relu", "x", "a"), node("Mul", "a k", "b"),
        node("Concat", "n rest", "s", axis=0), node("Reshape", "b s", "c"), *tail,
    )  # fmt: skip
    given = {"k": w(4, 1), "rest": i64(2, 12), **(constants or {})}
    return Graph(nodes=nodes, inputs=("x",), outputs=("c",), constants=given)


def test_a_computed_batch_size_stands_in_the_way_of_no_cut():
    graph = by_batch()
    assert graph.cut_values == ()
    fixed = with_fixed_shapes(graph)
    assert fixed.cut_values == ("a", "b") and [n.op for n in fixed.nodes] == [
        "Relu", "Mul", "Reshape"]  # fmt: skip
    for n in (1, 3):
        x = torch.randn(n, 4, 6)
        assert torch.equal(GraphModule(graph)(x), GraphModule(fixed)(x))


@pytest.mark.parametrize("rest", [i64(-1, 6), i64(0, 6)])
def test_a_shape_with_two_open_entries_is_left_as_it_is(rest):
    graph = by_batch(constants={"rest": rest})
    assert with_fixed_shapes(graph).cut_values == ()


def test_what_no_output_needs_is_left_out():
    graph = residual()
    more = Graph(
        nodes=(*graph.nodes, node("Exp", "d", "z"), node("Mul", "z k", "zz")), inputs=graph.inputs,
        outputs=graph.outputs, constants={**graph.constants, "k": w(4, 1, 1)},
    )  # fmt: skip
    assert without_unused(more) == graph


NAMES, SHAPES = ("one", "two", "three"), ((3, 4, 4), (4, 4, 4), (4, 4, 4), (5,))
WEIGHTS = ("one.weight", "two.weight", "three.weight")


@pytest.mark.parametrize(
    ("names", "shapes", "values"),
    [
        (NAMES, SHAPES, ("x", "b", "d", "y")),
        (("one", "act", "two", "pool", "flat", "three"),
         ((3, 4, 4), (4, 4, 4), (4, 4, 4), (4, 4, 4), (4, 1, 1), (4,), (5,)),
         ("x", "a", "b", "d", "e", "f", "y")),
        (("one", "drop", "act", "two", "three"),
         ((3, 4, 4), (4, 4, 4), (4, 4, 4), (4, 4, 4), (4,), (5,)), ("x", "a", "a", "b", "f", "y")),
    ],
)  # fmt: skip
def test_levels_are_found_by_weights_and_shapes(names, shapes, values):
    assert level_values(residual(), names, shapes, WEIGHTS) == values
    parts = [GraphModule(part) for part in residual().segments(values[1:-1])]
    x = X
    for part, shape in zip(parts, shapes, strict=False):
        assert tuple(x.shape[1:]) == shape
        x = part(x)
    assert torch.equal(x, GraphModule(residual())(X))


@pytest.mark.parametrize(
    ("names", "shapes", "said"),
    [
        (NAMES, (*SHAPES[:2], (4, 9, 9), SHAPES[3]), "'three'"),
        (("one", "three", "two"), SHAPES, "no value"),
        (("one", "two"), SHAPES[:3], "belongs to no block"),
    ],
)
def test_levels_that_are_not_there_are_named(names, shapes, said):
    with pytest.raises(GraphError, match=said):
        level_values(residual(), names, shapes, WEIGHTS)


def blocks(**renamed: str) -> GraphBlocks:
    graph = residual().renamed(renamed)
    return GraphBlocks({f"layer{i}.x": GraphModule(p) for i, p in
                        enumerate(graph.segments(("b", "d")))})  # fmt: skip


def test_weights_of_blocks_keep_the_names_of_the_constants():
    network = blocks()
    assert list(network.state_dict()) == list(WEIGHTS)
    changed = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    other = copy.deepcopy(network)
    other.load_state_dict(changed, strict=True)
    assert all(torch.equal(other.state_dict()[name], changed[name]) for name in WEIGHTS)
    assert not torch.equal(network.state_dict()["one.weight"], changed["one.weight"])
    assert len(list(network[1:].parameters())) == 2
    assert torch.equal(network[1:](network[0](X)), network(X))


@pytest.mark.parametrize("odd", ["layer0.x.one.weight", "more", "two"])
def test_weights_of_other_names_are_refused(odd):
    network = blocks()
    with pytest.raises(RuntimeError, match=odd):
        network.load_state_dict({**network.state_dict(), odd: torch.zeros(1)}, strict=True)
    left = {k: v for k, v in network.state_dict().items() if k != "two.weight"}
    with pytest.raises(RuntimeError, match=r"two\.weight"):
        network.load_state_dict(left, strict=True)


@pytest.mark.parametrize("name", ["forward", "type", "a/b:0", "training", "w.half.w", "w", "_x"])
def test_a_weight_may_be_called_as_torch_calls_its_own(name):
    network = blocks(**{"two.weight": name})
    state = network.state_dict()
    assert name in state
    network.load_state_dict({**state, name: state[name] * 0}, strict=True)
    assert not network.state_dict()[name].any()


def test_a_module_gives_its_graph_back_with_the_weights_as_they_are_now():
    module = GraphModule(residual())
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(2)
    again = module.graph
    assert np.array_equal(again.constants["two.weight"], 2 * residual().constants["two.weight"])
    assert torch.equal(GraphModule(again)(X), module(X))


def test_constants_that_are_not_trained_are_no_weights():
    nodes = (node("BatchNormalization", "x s b m v", "a"), node("Clip", "a lo hi", "c"),
             node("Mul", "c k", "d"), node("Add", "d one", "y"))  # fmt: skip
    constants = {"s": w(3), "b": w(3), "m": w(3), "v": abs(w(3)), "lo": np.float32(0),
                 "hi": np.float32(6), "k": w(3, 1, 1), "one": np.float32(1)}  # fmt: skip
    graph = Graph(nodes=nodes, inputs=("x",), outputs=("y",), constants=constants)
    assert graph.weights == ("k",) and list(GraphModule(graph).state_dict()) == ["k"]
    assert list(GraphModule(graph, weights=["s"]).state_dict()) == ["s"]
