"""Bringing a graph into one form: constants computed, shapes free of the batch, no idle nodes.

Afterwards a value depends on the image, or is a constant. What depended on the size of the batch
alone is written so that any batch fits. So data flow through few values, and cuts can be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from plr_edge.errors import BackboneError
from plr_edge.export.batch import TYPE_ONLY, depending, expanded, freed, row_of, unfixed
from plr_edge.export.network import (
    Network,
    fresh,
    names_of,
    producers,
    pruned,
    run_graph,
)
from plr_edge.graph.graph import Graph, Node

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
        row = row_of(values, sizes)
        if row is None:
            varying.append(name)
        else:
            same[name] = row
    network = with_constants(network, same)
    network = network.with_graph(expanded(without_sequences(network.graph)))
    if varying:
        network = freed(network, varying, images)
    if batch is not None:
        network = unfixed(network, images[0])
    return measured(network.with_graph(without_idle(pruned(network.graph))))


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


def without_sequences(graph: Graph) -> Graph:
    """Return a graph in which parts of a value are slices of it, and no elements of a sequence.

    Raises:
        BackboneError: it holds sequences that are not made by dividing one value.
    """
    makers = producers(graph)
    constants, taken = dict(graph.constants), names_of(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        source = makers.get(node.inputs[0]) if node.op == "SequenceAt" else None
        if source is not None and source.op == "SplitToSequence" and len(source.inputs) > 1:
            at, sizes = (constants.get(n) for n in (node.inputs[1], source.inputs[1]))
            if at is not None and sizes is not None and int(at) >= 0:
                edges = _edges(int(at), sizes)
                axis = int(source.attributes.get("axis", 0))
                names = []
                for what, value in zip(("start", "end", "axis"), (*edges, axis), strict=True):
                    taken.add(name := fresh(taken, f"{node.outputs[0]}_{what}"))
                    constants[name] = np.array([value], np.int64)
                    names.append(name)
                node = Node(op="Slice", inputs=(source.inputs[0], *names), outputs=node.outputs,
                            name=node.name)  # fmt: skip
        nodes.append(node)
    graph = pruned(replace(graph, nodes=tuple(nodes), constants=constants))
    odd = sorted({node.op for node in graph.nodes if "Sequence" in node.op})
    if odd:
        raise BackboneError(
            f"the network holds sequences of values ({', '.join(odd)}), which cannot be exported"
        )
    return graph


def _edges(at: int, sizes: np.ndarray) -> tuple[int, int]:
    """Return where a part of a divided axis begins and ends."""
    if sizes.ndim == 0:
        return at * int(sizes), (at + 1) * int(sizes)
    return int(sizes[:at].sum()), int(sizes[: at + 1].sum())


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
            skipped = TYPE_ONLY.get(node.op, ())
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
