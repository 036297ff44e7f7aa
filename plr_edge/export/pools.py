"""Means over all places of a map, in the form that every release of TensorRT reads."""

from __future__ import annotations

from dataclasses import replace

from plr_edge.export.network import Network, fresh, names_of
from plr_edge.graph.graph import Graph, Node


def with_pools(network: Network) -> Network:
    """Return a network whose means over all places of a map are GlobalAveragePool.

    ReduceMean of opset 18 has its axes as an input, which TensorRT 8.6 does not read.
    """
    graph, taken = network.graph, names_of(network.graph)
    shapes, scopes = dict(network.shapes), dict(network.scopes)
    nodes: list[Node] = []
    for node in graph.nodes:
        shape = shapes.get(node.inputs[0], ()) if node.op == "ReduceMean" else ()
        n_axes = len(shape) + 1
        if n_axes in (3, 4) and _axes(graph, node, n_axes) == [*range(2, n_axes)]:
            keeps = bool(node.attributes.get("keepdims", 1))
            pooled = node.outputs[0] if keeps else fresh(taken, f"{node.outputs[0]}_pooled")
            taken.add(pooled)
            shapes[pooled] = (shape[0], *[1] * (len(shape) - 1))
            if node.outputs[0] in scopes:
                scopes[pooled] = scopes[node.outputs[0]]
            nodes.append(Node(op="GlobalAveragePool", inputs=node.inputs[:1], outputs=(pooled,),
                              name=node.name))  # fmt: skip
            if not keeps:
                nodes.append(Node(op="Flatten", inputs=(pooled,), outputs=node.outputs,
                                  attributes={"axis": 1}))  # fmt: skip
        else:
            nodes.append(node)
    graph = replace(graph, nodes=tuple(nodes))
    return replace(network, graph=graph, shapes=shapes, scopes=scopes)


def _axes(graph: Graph, node: Node, n_axes: int) -> list[int]:
    """Return the axes that a mean is taken over. Empty if they are not known."""
    given = node.attributes.get("axes")
    if given is None and len(node.inputs) > 1:
        given = graph.constants.get(node.inputs[1])
    if given is None:
        return []
    return sorted(int(axis) % n_axes for axis in given)
