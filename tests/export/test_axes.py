"""What the axes of a latent mean, from the operators around it."""

from __future__ import annotations

import numpy as np
import pytest

from plr_edge.export.axes import axes_of, finder
from plr_edge.export.network import Network
from plr_edge.graph.graph import Graph, Node

KERNEL, MATRIX, SCALE = (np.zeros((8, 8, 1, 1), "f"), np.zeros((8, 8), "f"), np.ones(8, "f"))
MAP, LAST, TOKENS = (8, 7, 7), (7, 7, 8), (49, 8)


def node(op, inputs, output, **attributes) -> Node:
    return Node(op=op, inputs=tuple(inputs.split()), outputs=(output,), attributes=attributes)


CASES = {
    "a convolution behind it": ([node("Relu", "x", "v"), node("Conv", "v k", "y")],
                                {"x": MAP, "v": MAP, "y": MAP}, "CHW"),
    "a convolution before it": ([node("Conv", "x k", "v"), node("Relu", "v", "y")],
                                {"x": MAP, "v": MAP, "y": MAP}, "CHW"),
    "a linear layer behind it": ([node("Relu", "x", "v"), node("MatMul", "v m", "y")],
                                 {"x": LAST, "v": LAST, "y": LAST}, "HWC"),
    "a norm behind an addition": ([node("Relu", "x", "v"), node("Add", "v v", "a"),
                                   node("LayerNormalization", "a s", "y")],
                                  {"x": LAST, "v": LAST, "a": LAST, "y": LAST}, "HWC"),
    "channels are moved to the end before it": (
        [node("Conv", "x k", "c"), node("Transpose", "c", "v", perm=[0, 2, 3, 1]),
         node("Reshape", "v r", "y")],
        {"x": MAP, "c": MAP, "v": LAST, "y": TOKENS}, "HWC"),
    "channels are moved to the end behind it": (
        [node("Relu", "x", "v"), node("Transpose", "v", "y", perm=[0, 2, 3, 1])],
        {"x": MAP, "v": MAP, "y": LAST}, "CHW"),
    "channels are moved to the front behind it": (
        [node("Relu", "x", "v"), node("Transpose", "v", "y", perm=[0, 3, 1, 2])],
        {"x": LAST, "v": LAST, "y": MAP}, "HWC"),
    "channels are moved to the front before it": (
        [node("Transpose", "x", "v", perm=[0, 3, 1, 2]), node("Relu", "v", "y")],
        {"x": LAST, "v": MAP, "y": MAP}, "CHW"),
    "tokens": ([node("Relu", "x", "v"), node("MatMul", "v m", "y")],
               {"x": TOKENS, "v": TOKENS, "y": TOKENS}, "ND"),
    "nothing tells": ([node("Relu", "x", "v"), node("Relu", "v", "y")],
                      {"x": MAP, "v": MAP, "y": MAP}, "CHW"),
    "a vector": ([node("Relu", "x", "v"), node("Relu", "v", "y")],
                 {"x": (8,), "v": (8,), "y": (8,)}, "D"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_operators_around_a_value_tell_its_axes(name):
    nodes, shapes, axes = CASES[name]
    constants = {"k": KERNEL, "m": MATRIX, "s": SCALE, "r": np.array([-1, 49, 8])}
    graph = Graph(nodes=tuple(nodes), inputs=("x",), outputs=("y",), constants=constants)
    network = Network(graph=graph, input_shape=shapes["x"], shapes=shapes)
    assert axes_of(finder(network), "v") == axes
