"""Rewrites of a graph that change nothing of what it computes. NumPy only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plr_edge.graph.graph import Graph, Node


def with_fixed_shapes(graph: Graph) -> Graph:
    """Return the graph with constant shapes where only the batch size had to be computed.

    An exporter that does not fix the batch writes a Reshape whose shape is joined from the batch
    size of the input and constants. The input would then reach across every value that lies
    between, and the graph could not be divided there. With -1 in that place the shape is constant.

    Args:
        graph: the graph.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        shape = None
        if node.op == "Reshape" and not node.attributes.get("allowzero"):
            shape = _fixed_shape(node.inputs[1], graph, makers)
        if shape is not None:
            name = f"{node.outputs[0]}.shape"
            if name in constants or name in makers or name in graph.inputs:
                shape = None
            else:
                constants[name] = np.array(shape, np.int64)
                node = replace(node, inputs=(node.inputs[0], name))
        nodes.append(node)
    return without_unused(replace(graph, nodes=tuple(nodes), constants=constants))


def _fixed_shape(name: str, graph: Graph, makers: dict[str, Node]) -> list[int] | None:
    """Return a shape with one computed entry as constants with -1 there, or None."""
    maker = makers.get(name)
    if maker is None or maker.op != "Concat" or name not in graph.computed:
        return None
    shape: list[int] = []
    for part in maker.inputs:
        array = graph.constants.get(part)
        if array is not None:
            shape += [int(n) for n in array.reshape(-1)]
        elif _is_one_number(part, makers, graph):
            shape.append(-1)
        else:
            return None
    return shape if shape.count(-1) == 1 and 0 not in shape else None


def _is_one_number(name: str, makers: dict[str, Node], graph: Graph) -> bool:
    """Return whether a value is one entry of a shape, e.g. the batch size."""
    node = makers.get(name)
    if node is None:
        return False
    if node.op == "Shape":
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        return end is not None and (end - start == 1)
    if node.op == "Gather":
        index = graph.constants.get(node.inputs[1])
        return index is not None and index.size == 1
    if node.op == "Slice":
        starts, ends = (graph.constants.get(name) for name in node.inputs[1:3])
        if starts is None or ends is None or len(node.inputs) > 4:
            return False
        return starts.size == 1 and int(ends.reshape(-1)[0] - starts.reshape(-1)[0]) == 1
    if node.op in ("Unsqueeze", "Squeeze", "Cast", "Reshape", "Identity"):
        return _is_one_number(node.inputs[0], makers, graph)
    return False


def without_unused(graph: Graph) -> Graph:
    """Return the graph without nodes and constants that no output needs."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            kept.append(node)
            needed.update(filter(None, node.inputs))
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return replace(graph, nodes=tuple(reversed(kept)), constants=constants)
