"""Freeing a graph of the size of its batch: shapes, rows and repeated constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from plr_edge.errors import BackboneError
from plr_edge.export.network import Network, fresh, names_of, pruned, run_graph
from plr_edge.graph.graph import Graph, Node

# inputs of which an operator reads the shape or the type alone
TYPE_ONLY = {"Shape": (0,), "Size": (0,), "CastLike": (1,), "EyeLike": (0,)}


def depending(graph: Graph) -> frozenset[str]:
    """Return the values that depend on what an image shows, and not only on its shape."""
    found = set(graph.inputs)
    for node in graph.nodes:
        skipped = TYPE_ONLY.get(node.op, ())
        if any(name in found for at, name in enumerate(node.inputs) if at not in skipped):
            found.update(filter(None, node.outputs))
    return frozenset(found)


def row_of(values: list[np.ndarray], sizes: tuple[int, ...]) -> np.ndarray | None:
    """Return what a value is for any batch: itself, or its one row. None if it is neither."""
    first = values[0]
    if all(np.array_equal(first, other, equal_nan=first.dtype.kind == "f") for other in values):
        return first
    for value, n in zip(values, sizes, strict=True):
        if value.ndim < 2 or len(value) != n or (value != value[:1]).any():
            return None
    same = all(np.array_equal(first[:1], other[:1]) for other in values)
    return first[:1].copy() if same else None


def expanded(graph: Graph) -> Graph:
    """Repeat a constant for each image where it is joined with what depends on the image.

    An exporter repeats a class token as often as the first value of the network has rows, which
    would have to be kept until then.
    """
    nodes: list[Node] = []
    constants, taken = dict(graph.constants), names_of(graph)

    def new(name: str) -> str:
        taken.add(found := fresh(taken, name))
        return found

    for node in graph.nodes:
        fixed = [n for n in node.inputs if n in graph.constants and graph.constants[n].ndim > 1]
        if node.op == "Concat" and fixed and node.outputs[0] in graph.computed:
            if node.attributes["axis"] == 0:
                raise BackboneError("a Concat of the network joins images with something else")
            local = next(name for name in node.inputs if name in graph.computed)
            whole, index, n_rows = (new(f"{local}_{x}") for x in ("shape", "axis", "rows"))
            constants[index] = np.zeros(1, np.int64)
            nodes.append(Node(op="Shape", inputs=(local,), outputs=(whole,)))
            nodes.append(Node(op="Gather", inputs=(whole, index), outputs=(n_rows,),
                              attributes={"axis": 0}))  # fmt: skip
            for name in fixed:
                rest, shape, rows = (new(f"{name}_{x}") for x in ("rest", "rows_shape", "rows"))
                constants[rest] = np.array(graph.constants[name].shape[1:], np.int64)
                nodes.append(Node(op="Concat", inputs=(n_rows, rest), outputs=(shape,),
                                  attributes={"axis": 0}))  # fmt: skip
                nodes.append(Node(op="Expand", inputs=(name, shape), outputs=(rows,)))
                node = replace(node, inputs=tuple(rows if n == name else n for n in node.inputs))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants)


def freed(network: Network, varying: Sequence[str], images: Sequence[np.ndarray]) -> Network:
    """Replace the shapes that vary with the batch by constants with one free axis.

    Args:
        network: the network.
        varying: values that differ between batches.
        images: a batch of each of two sizes.

    Raises:
        BackboneError: something else than a shape varies, or it varies along several axes.
    """
    graph, odd = network.graph, set(varying)
    depends = depending(graph)
    nodes = [n for n in graph.nodes if odd & set(n.inputs) and not depends.isdisjoint(n.outputs)]
    for node in nodes:
        known = node.op in ("Reshape", "Expand") or _counts_up(graph, node, images)
        if not known or odd & {node.inputs[0]}:
            raise BackboneError(
                f"a {node.op} of the network depends on the size of the batch in a way that cannot "
                "be freed; give a network whose layers treat each image by itself"
            )
    outputs = [node.outputs[0] for node in nodes]
    runs = [run_graph(graph, image, outputs) for image in images]
    shapes = {}
    for node in nodes:
        first, second = (np.array(run[node.outputs[0]].shape, np.int64) for run in runs)
        if (first != second).sum() > 1:
            raise BackboneError(f"a {node.op} of the network spreads the batch over several axes")
        shapes[node.outputs[0]] = np.where(first != second, 1 if node.op == "Expand" else -1, first)
    return _with_shapes(network, shapes)


def _counts_up(graph: Graph, node: Node, images: Sequence[np.ndarray]) -> bool:
    """Return whether a Gather takes all rows in their order, as torch writes `as_strided`."""
    if node.op != "Gather" or node.attributes.get("axis", 0) != 0:
        return False
    for image in images:
        run = run_graph(graph, image, node.inputs)
        rows, index = (run[name] for name in node.inputs)
        if rows.ndim != 1 or not np.array_equal(index.reshape(-1), np.arange(len(rows))):
            return False
    return True


def unfixed(network: Network, image: np.ndarray) -> Network:
    """Free the batch of a graph whose shapes are written for one size.

    Args:
        network: the network.
        image: a batch of this size.
    """
    graph = network.graph
    outputs = [
        n.outputs[0] for n in graph.nodes if n.op == "Reshape" and n.outputs[0] in graph.computed
    ]
    shapes = {}
    for name, value in run_graph(graph, image, outputs).items():
        shapes[name] = np.array((-1, *value.shape[1:]), np.int64)
    return _with_shapes(network, shapes)


def _with_shapes(network: Network, shapes: Mapping[str, np.ndarray]) -> Network:
    """Write the shape that each of some nodes returns into the graph."""
    graph = network.graph
    constants, taken = dict(graph.constants), names_of(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.outputs[0] in shapes:
            taken.add(name := fresh(taken, f"{node.outputs[0]}_shape"))
            constants[name] = shapes[node.outputs[0]]
            op = "Expand" if node.op == "Expand" else "Reshape"
            node = replace(node, op=op, inputs=(node.inputs[0], name), attributes={})
        nodes.append(node)
    return network.with_graph(pruned(replace(graph, nodes=tuple(nodes), constants=constants)))
