"""Bringing a graph into one form: constants computed, shapes free of the batch, no idle nodes.

Afterwards a value depends on the image, or is a constant. What depended on the size of the batch
alone is written so that any batch fits. So data flow through few values, and cuts can be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from plr_edge.errors import BackboneError
from plr_edge.export.network import (
    Network,
    fresh,
    names_of,
    pruned,
    run_graph,
)
from plr_edge.graph.graph import Graph, Node

_TYPE_ONLY = {"Shape": (0,), "Size": (0,), "CastLike": (1,), "EyeLike": (0,)}
_IDLE = ("Identity", "Dropout")
_MAX_FOLDED = 1 << 26  # values of a constant that is computed here


def normalised(network: Network, batch: int | None, seed: int = 0) -> Network:
    """Return a network in which shapes are constants and any batch fits.

    Args:
        network: the network as it was given.
        batch: the size of the batch that its graph is fixed to; None if any fits.
        seed: random seed of the images on which the graph is run.

    Returns:
        The network, with the shape of every value.

    Raises:
        BackboneError: shapes depend on what an image shows, or the batch cannot be freed.
        EngineError: ONNX Runtime cannot run the graph.
    """
    graph = without_idle(pruned(network.graph))
    network = network.with_graph(graph)
    sizes = (2, 3) if batch is None else (batch,)
    random = np.random.default_rng(seed)
    images = [random.standard_normal((n, *network.input_shape), np.float32) for n in sizes]
    wanted = sorted(_frontier(graph))
    runs = [run_graph(graph, image, wanted) for image in images]
    same: dict[str, np.ndarray] = {}
    varying: list[str] = []
    for name in wanted:
        values = [run[name] for run in runs]
        row = _row(values, sizes)
        if row is None:
            varying.append(name)
        else:
            same[name] = row
    network = with_constants(network, same)
    if varying:
        network = _freed(network, varying, runs)
    if batch is not None:
        network = _unfixed(network, images[0])
    graph = _expanded(without_idle(pruned(network.graph)))
    return measured(network.with_graph(graph))


def measured(network: Network) -> Network:
    """Return a network with the shape of every value that depends on the image.

    Raises:
        BackboneError: a value does not have the batch as its first axis, or ONNX Runtime fails.
    """
    graph = network.graph
    names = [name for name in sorted(graph.computed) if name != network.image]
    shapes = {network.image: network.input_shape}
    image = np.random.default_rng(0).standard_normal((2, *network.input_shape), np.float32)
    for name, value in run_graph(graph, image, names).items():
        shapes[name] = tuple(value.shape[1:]) if value.ndim and value.dtype == np.float32 else ()
        if value.ndim and len(value) != 2:
            shapes[name] = ()  # e.g. windows of an image as a batch of their own
    return replace(network, shapes=shapes)


def depending(graph: Graph) -> frozenset[str]:
    """Return the values that depend on what an image shows, and not only on its shape."""
    found = set(graph.inputs)
    for node in graph.nodes:
        skipped = _TYPE_ONLY.get(node.op, ())
        if any(name in found for at, name in enumerate(node.inputs) if at not in skipped):
            found.update(filter(None, node.outputs))
    return frozenset(found)


def without_idle(graph: Graph) -> Graph:
    """Return a graph without nodes that return what they take."""
    names: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
        if node.op in _IDLE and node.outputs[0] not in graph.outputs:
            names[node.outputs[0]] = node.inputs[0]
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def with_constants(network: Network, values: Mapping[str, np.ndarray]) -> Network:
    """Return a network in which values are constants.

    A constant that is computed from one weight bears the name of that weight, so that it is found
    under the name that its author gave it.
    """
    graph = network.graph
    sources = _sources(graph, network.parameters)
    taken, renamed = names_of(graph), dict[str, str]()
    for name, array in values.items():
        if name in graph.constants or array.size > _MAX_FOLDED:
            continue
        weights = sources.get(name, frozenset())
        if weights and array.dtype == np.float32 and array.size > 1:
            largest = max(sorted(weights), key=lambda one: graph.constants[one].size)
            renamed[name] = largest
    nodes = tuple(n for n in graph.nodes if not set(n.outputs) & set(values))
    constants = {**graph.constants, **{n: np.asarray(a) for n, a in values.items()}}
    graph = pruned(replace(graph, nodes=nodes, constants=constants))
    parameters = None if network.parameters is None else set(network.parameters)
    final: dict[str, str] = {}
    for name, wanted in renamed.items():
        if name in graph.constants:
            free = wanted not in graph.constants and wanted not in final.values()
            final[name] = wanted if free else fresh({*taken, *final.values()}, wanted)
            if parameters is not None:
                parameters.add(final[name])
    parameters_ = None if parameters is None else frozenset(parameters)
    return replace(network, graph=graph.renamed(final), parameters=parameters_)


def _sources(graph: Graph, parameters: frozenset[str] | None) -> dict[str, frozenset[str]]:
    """Return the weights from whose values each constant value is computed."""
    depends = depending(graph)
    found: dict[str, frozenset[str]] = {
        name: frozenset([name])
        for name, array in graph.constants.items()
        if array.dtype == np.float32
        and (name in parameters if parameters is not None else array.size > 1)
    }
    for node in graph.nodes:
        if depends.isdisjoint(node.outputs):
            skipped = _TYPE_ONLY.get(node.op, ())
            weights = frozenset[str]().union(
                *(found.get(n, frozenset()) for i, n in enumerate(node.inputs) if i not in skipped)
            )
            found.update((name, weights) for name in node.outputs)
    return found


def _frontier(graph: Graph) -> set[str]:
    """Return the values that do not depend on what an image shows, but are used by those that do.

    Constants are not among them.
    """
    depends = depending(graph)
    found: set[str] = set()
    for node in graph.nodes:
        if not depends.isdisjoint(node.outputs):
            found.update(n for n in node.inputs if n and n not in depends)
    found.update(name for name in graph.outputs if name not in depends)
    return {name for name in found if name not in graph.constants}


def _row(values: list[np.ndarray], sizes: tuple[int, ...]) -> np.ndarray | None:
    """Return what a value is for any batch: itself, or its one row. None if it is neither."""
    first = values[0]
    if all(np.array_equal(first, other, equal_nan=first.dtype.kind == "f") for other in values):
        return first
    for value, n in zip(values, sizes, strict=True):
        if value.ndim < 2 or len(value) != n or (value != value[:1]).any():
            return None
    same = all(np.array_equal(first[:1], other[:1]) for other in values)
    return first[:1].copy() if same else None


def _expanded(graph: Graph) -> Graph:
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


def _freed(network: Network, varying: list[str], runs: list[dict[str, np.ndarray]]) -> Network:
    """Replace shapes that vary with the batch by constants with one free axis, or local ones."""
    graph = network.graph
    depends = depending(graph)
    nodes: list[Node] = []
    constants = dict(graph.constants)
    taken = names_of(graph)
    for node in graph.nodes:
        odd = [n for n in node.inputs if n in varying]
        if odd and not depends.isdisjoint(node.outputs):
            shapes = [run[odd[0]] for run in runs]
            free = np.flatnonzero(shapes[0] != shapes[1]) if shapes[0].ndim == 1 else np.zeros(0)
            known = node.op in ("Reshape", "Expand") and odd == [node.inputs[1]]
            if not known or len(free) != 1:
                raise BackboneError(
                    f"a {node.op} of the network depends on the size of the batch in a way that "
                    "cannot be freed; give a network whose layers treat each image by itself"
                )
            filled = -1 if node.op == "Reshape" else 1
            shape = np.where(shapes[0] != shapes[1], filled, shapes[0]).astype(np.int64)
            name = fresh(taken, f"{node.outputs[0]}_shape")
            taken.add(name)
            constants[name] = shape
            node = replace(node, inputs=(node.inputs[0], name), attributes={})
        nodes.append(node)
    graph = replace(graph, nodes=tuple(nodes), constants=constants)
    return network.with_graph(pruned(graph))


def _unfixed(network: Network, image: np.ndarray) -> Network:
    """Free the batch of a graph whose shapes are written for one size."""
    graph = network.graph
    reshapes = [n for n in graph.nodes if n.op == "Reshape" and n.inputs[1] in graph.constants]
    values = run_graph(graph, image, [node.outputs[0] for node in reshapes])
    nodes, constants, taken = [], dict(graph.constants), names_of(graph)
    for node in graph.nodes:
        if node in reshapes and node.outputs[0] in graph.computed:
            shape = np.array(values[node.outputs[0]].shape, np.int64)
            shape[0] = -1
            name = fresh(taken, f"{node.outputs[0]}_shape")
            taken.add(name)
            constants[name] = shape
            node = replace(node, inputs=(node.inputs[0], name), attributes={})
        nodes.append(node)
    return network.with_graph(replace(graph, nodes=tuple(nodes), constants=constants))
