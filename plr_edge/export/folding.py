"""BatchNorm folded on the graph, and one constant for each use of a weight.

BatchNorm that cannot be folded stays in the graph, where it is a fixed scale and shift.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from plr_edge.export.network import Network, consumers, fresh, names_of, pruned
from plr_edge.graph.graph import Graph, Node

_ODD, _LONGEST = re.compile(r"[^A-Za-z0-9_.]"), 100
_LINEAR = ("Conv", "Gemm", "MatMul")


def folded(network: Network) -> Network:
    """Return a network with every BatchNorm folded into the layer whose outputs it alone takes."""
    graph, parameters = network.graph, set(network.parameters or ())
    users = consumers(graph)
    made: dict[str, Node] = {}
    constants = dict(graph.constants)
    scopes = dict(network.scopes)
    nodes: list[Node] = []
    for node in graph.nodes:
        before = made.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        alone = before is not None and len(users[before.outputs[0]]) == 1
        if before is not None and alone and before.outputs[0] not in graph.outputs:
            taken = {*names_of(graph), *constants}
            fused = _fused(before, node, constants, users, taken, network.parameters)
            if fused is not None:
                at = next(i for i, one in enumerate(nodes) if one is before)
                nodes[at] = replace(fused, outputs=(node.outputs[0],))
                made[node.outputs[0]] = nodes[at]
                if before.outputs[0] in scopes:
                    scopes[node.outputs[0]] = scopes[before.outputs[0]]
                parameters.update(fused.inputs[1:])
                continue
        nodes.append(node)
        made.update(dict.fromkeys(node.outputs, node))
    graph = pruned(replace(graph, nodes=tuple(nodes), constants=constants))
    known = None if network.parameters is None else frozenset(parameters)
    return replace(network, graph=graph, parameters=known, scopes=scopes)


def _fused(
    layer: Node, norm: Node, constants: dict[str, np.ndarray], users: dict[str, list[Node]],
    taken: set[str], known: frozenset[str] | None,
) -> Node | None:  # fmt: skip
    """Return a layer that also does what the norm behind it does. None if there is no such one."""
    if layer.op not in ("Conv", "Gemm") or len(norm.outputs) > 1:
        return None
    if any(name not in constants for name in (*layer.inputs[1:], *norm.inputs[1:])):
        return None
    if layer.op == "Gemm" and (
        layer.attributes.get("alpha", 1.0) != 1 or layer.attributes.get("beta", 1.0) != 1
    ):
        return None
    weight = constants[layer.inputs[1]].astype(np.float64)
    scale, shift, mean, var = (constants[n].astype(np.float64) for n in norm.inputs[1:5])
    factor = scale / np.sqrt(var + norm.attributes.get("epsilon", 1e-5))
    axis = 0 if layer.op == "Conv" or layer.attributes.get("transB") else 1
    if weight.shape[axis] != len(factor):
        return None
    has_bias = len(layer.inputs) > 2
    bias = constants[layer.inputs[2]].astype(np.float64) if has_bias else np.zeros(len(factor))
    shape = [1] * weight.ndim
    shape[axis] = -1
    own = has_bias and (known is None or layer.inputs[2] in known)  # else an exporter's zeros
    names = [layer.inputs[1], layer.inputs[2] if own else bias_name(layer.inputs[1])]
    for at, array in enumerate((weight * factor.reshape(shape), (bias - mean) * factor + shift)):
        shared = len(users.get(names[at], ())) > 1
        if shared or (at == 1 and not own):
            names[at] = fresh(taken, names[at])
            taken.add(names[at])
        constants[names[at]] = array.astype(np.float32)
    return replace(layer, inputs=(layer.inputs[0], *names))


def bias_name(weight: str) -> str:
    """Return a name for the bias of a layer that has none, from that of its weight."""
    stem, dot, last = weight.rpartition(".")
    return f"{stem}{dot}bias" if last == "weight" else f"{weight}_bias"


def untied(network: Network) -> Network:
    """Return a network in which each node has its own copy of each weight that it uses.

    A layer that is used twice becomes two, so that each can be frozen or trained by itself. Biases
    of zeros that an exporter has added are left out.
    """
    graph = network.graph
    weights, parameters = set(weights_of(network)), set(network.parameters or ())
    constants, taken, used = dict(graph.constants), names_of(graph), set[str]()
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = list(node.inputs)
        for at, name in enumerate(inputs):
            if name in weights and name in used:
                inputs[at] = fresh(taken, name)
                taken.add(inputs[at])
                constants[inputs[at]] = constants[name]
                parameters.add(inputs[at])
            used.add(name)
        if node.op == "Conv" and len(inputs) == 3 and inputs[2] not in parameters:
            bias = constants.get(inputs[2])
            if network.parameters is not None and bias is not None and not bias.any():
                inputs.pop()
        nodes.append(replace(node, inputs=tuple(inputs)))
    graph = pruned(replace(graph, nodes=tuple(nodes), constants=constants))
    known = None if network.parameters is None else frozenset(parameters)
    return replace(network, graph=graph, parameters=known)


def plainly_named(network: Network) -> Network:
    """Return a network whose weights have names that a safetensors file of a state may hold."""
    taken, names = names_of(network.graph), dict[str, str]()
    for name in weights_of(network):
        plain = _ODD.sub("_", name)[:_LONGEST]
        if plain != name:
            taken.add(found := fresh(taken, plain))
            names[name] = found
    known = network.parameters
    known = None if known is None else frozenset(names.get(name, name) for name in known)
    return replace(network, graph=network.graph.renamed(names), parameters=known)


def weights_of(network: Network) -> tuple[str, ...]:
    """Return the names of the constants that training may change, in the order of use."""
    graph = network.graph
    if network.parameters is None:
        return graph.weights
    fixed = {n for node in graph.nodes if node.op == "BatchNormalization" for n in node.inputs[1:]}
    used = dict.fromkeys(name for node in graph.nodes for name in node.inputs)
    return tuple(
        n for n in used if n in network.parameters and n in graph.constants and n not in fixed
    )


def is_layer(node: Node, graph: Graph) -> bool:
    """Return whether a node multiplies by weights: a convolution or a linear layer."""
    return node.op in _LINEAR and any(name in graph.constants for name in node.inputs[1:2])
