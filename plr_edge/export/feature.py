"""The feature of a network: what its classifier takes. The classifier itself is left out."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

import numpy as np

from plr_edge.errors import BackboneError
from plr_edge.export.axes import axes_of, finder, told_axes
from plr_edge.export.folding import is_layer
from plr_edge.export.network import Network, fresh, names_of, producers, pruned
from plr_edge.graph.graph import Node

# what may lie between the last linear layer and the output
_BEHIND = ("Softmax", "LogSoftmax", "Sigmoid", "Identity", "Flatten", "Reshape", "Squeeze",
           "Unsqueeze", "Cast", "Add")  # fmt: skip
_POOLS = ("GlobalAveragePool", "ReduceMean", "AveragePool")
_FEW = 2
_NARROW = 32  # channels of a map that is rather an answer than a feature


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Where the feature of a network is.

    Attributes:
        value: name of the value that becomes the feature, before it is pooled.
        dropped: what is left out behind it, for a message; empty if nothing is.
    """

    value: str
    dropped: str


def find_feature(network: Network, name: str | None) -> Feature:
    """Find the feature: the input of the last linear layer, or the output if there is none.

    Args:
        network: the network.
        name: name of a value or of a module whose output is the feature; found by default.

    Raises:
        BackboneError: there is no such value, or nothing in the network can be a feature.
    """
    if name is not None:
        return Feature(value=_named(network, name), dropped="")
    output = network.graph.outputs[0]
    layer = _classifier(network, output)
    if layer is not None:
        n = int(np.prod(network.shapes[output]))
        scope = network.scopes.get(layer.outputs[0])
        called = scope.path[-1] if scope and scope.path[-1] else layer.name or layer.outputs[0]
        return Feature(value=layer.inputs[0], dropped=f"its classifier {called!r} ({n} outputs)")
    if _is_feature(network, output):
        return Feature(value=output, dropped="")
    values = [v for v in network.graph.cut_values if len(network.shapes[v]) in (1, 3)]
    known = finder(network)
    wide = [v for v in values if _channels(network, v, axes_of(known, v)) >= _NARROW]
    if not wide:
        raise BackboneError(
            f"the network returns {network.shapes[output]} for an image, and no value on the way "
            "can be a feature; name one with --feature"
        )
    widest = max(_channels(network, v, axes_of(known, v)) for v in wide)
    last = [v for v in wide if _channels(network, v, axes_of(known, v)) == widest][-1]
    return Feature(value=last, dropped=f"what lies behind {last!r}")


def with_feature(network: Network, value: str) -> Network:
    """Return a network whose output `feature` (B, D) is a value, averaged over its positions."""
    graph, shape = network.graph, network.shapes[value]
    axes = axes_of(finder(network), value)
    taken = names_of(graph)
    nodes: list[Node] = []
    shapes, scopes = dict(network.shapes), dict(network.scopes)

    def add(op: str, source: str, wanted: str, **attributes: object) -> str:
        target = fresh(taken, wanted)
        taken.add(target)
        nodes.append(Node(op=op, inputs=(source,), outputs=(target,), attributes=attributes))
        return target

    last, pooled = value, shape
    n_values = int(np.prod(shape))
    if len(shape) > 1 and n_values > max(shape):  # else all axes but one are 1
        if axes == "HWC":
            last, pooled = add("Transpose", last, "feature_channels", perm=[0, 3, 1, 2]), (
                shape[2], shape[0], shape[1])  # fmt: skip
        elif axes == "ND":
            last, pooled = add("Transpose", last, "feature_channels", perm=[0, 2, 1]), (
                shape[1], shape[0])  # fmt: skip
        shapes[last] = pooled
        last = add("GlobalAveragePool", last, "feature_pooled")
        shapes[last] = (pooled[0], *[1] * (len(pooled) - 1))
    if len(shape) != 1:
        last = add("Flatten", last, "feature_flat", axis=1)
        shapes[last] = (int(np.prod(shapes[nodes[-1].inputs[0]])),)
    if not nodes and value in graph.outputs:
        last = value
    graph = pruned(replace(graph, nodes=(*graph.nodes, *nodes), outputs=(last,)))
    return replace(network, graph=graph, shapes=shapes, scopes=scopes)


def _classifier(network: Network, output: str) -> Node | None:
    """Return the last linear layer, if only what turns its outputs into an answer follows."""
    makers = producers(network.graph)
    name, pooled = output, False
    while name in makers:
        node = makers[name]
        inputs = [n for n in node.inputs if n in network.graph.computed]
        if len(inputs) != 1:
            return None
        if is_layer(node, network.graph) and inputs[0] == node.inputs[0]:
            if node.op == "Conv" and not _classifies(network, node, pooled):
                return None
            return node
        pooled = pooled or node.op in _POOLS
        if node.op not in (*_BEHIND, *_POOLS) and not (node.op == "Relu" and pooled):
            return None
        name = inputs[0]
    return None


def _classifies(network: Network, layer: Node, pooled: bool) -> bool:
    """Return whether a convolution is a linear layer at each place, of a map that is pooled."""
    kernel = network.graph.constants[layer.inputs[1]].shape[2:]
    return set(kernel) == {1} and (pooled or set(network.shapes[layer.outputs[0]][1:]) <= {1})


def _is_feature(network: Network, output: str) -> bool:
    axes = told_axes(finder(network), output)
    return bool(axes) and _channels(network, output, axes) >= _FEW


def _channels(network: Network, value: str, axes: str) -> int:
    shape = network.shapes[value]
    return shape[-1] if axes in ("HWC", "ND", "D") else shape[0]


def _named(network: Network, name: str) -> str:
    """Return the value that a user means: its own name, or the last one that a module makes."""
    if name in network.graph.computed and network.shapes.get(name):
        return name
    made = [v for v, s in network.scopes.items() if name in s.path and network.shapes.get(v)]
    if made:
        order = [o for node in network.graph.nodes for o in node.outputs]
        return max(made, key=lambda v: order.index(v) if v in order else -1)
    known = {*(v for v in network.graph.computed if network.shapes.get(v)),
             *(part for s in network.scopes.values() for part in s.path if part)}  # fmt: skip
    near = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise BackboneError(f"the network has no value or module {name[:60]!r}{hint}")
