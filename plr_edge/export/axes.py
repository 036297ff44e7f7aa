"""What the axes of a value mean: channels first, channels last, tokens, a sequence, a vector."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from plr_edge.export.network import Network, consumers, producers
from plr_edge.graph.graph import Node

_CHANNELS_FIRST = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
                   "BatchNormalization", "InstanceNormalization", "GroupNormalization", "Resize",
                   "DepthToSpace", "ConvTranspose", "PRelu", "LpPool")  # fmt: skip
_CHANNELS_LAST = ("LayerNormalization", "MatMul", "Gemm")
_MOVING = ("Transpose", "Reshape")
# orders of a Transpose: what it takes, and what it makes
_MOVED: dict[tuple[int, ...], tuple[str, str]] = {
    (0, 2, 3, 1): ("CHW", "HWC"),
    (0, 3, 1, 2): ("HWC", "CHW"),
}
_CALLED = {4: ("CHW", "HWC"), 3: ("CT", "ND")}  # by the number of axes with that of the batch


@dataclass(frozen=True)
class _Finder:
    network: Network
    users: dict[str, list[Node]]
    makers: dict[str, Node]


def finder(network: Network) -> _Finder:
    """Return what `axes_of` needs to know about a network."""
    return _Finder(network, consumers(network.graph), producers(network.graph))


def axes_of(known: _Finder, value: str) -> str:
    """Return what the axes of a value mean: CHW, HWC, CT, ND or D.

    The operators around it tell: a convolution takes channels first, a linear layer takes them
    last. Where nothing tells, a map has its channels first, and what has two axes is tokens.
    """
    n_axes = len(known.network.shapes[value])
    return told_axes(known, value) or {2: "ND", 3: "CHW"}.get(n_axes, "D")


def told_axes(known: _Finder, value: str) -> str:
    """Return what the operators around a value tell of its axes; empty if they tell nothing."""
    shape = known.network.shapes[value]
    if len(shape) not in (2, 3):
        return "D"
    first, last = _CALLED[len(shape) + 1]
    seen, queue = {value}, deque([value])
    while queue:
        name = queue.popleft()
        above, below = list[str](), set[str]()
        for node in known.users.get(name, ()):
            if node.op in _CHANNELS_FIRST and node.inputs[0] == name:
                return first
            if node.op in _CHANNELS_LAST and node.inputs[0] == name and _constant(known, node):
                return last
            if _order(node) in _MOVED and node.inputs[0] == name:
                return _MOVED[_order(node)][0]
            above += node.outputs
        maker = known.makers.get(name)
        if maker is not None:
            if maker.op in _CHANNELS_FIRST:
                return first
            if maker.op in _CHANNELS_LAST and _constant(known, maker):
                return last
            if _order(maker) in _MOVED:
                return _MOVED[_order(maker)][1]
            if maker.op not in _MOVING:
                below.update(maker.inputs)
        for other in (*above, *sorted(below)):
            if other not in seen and known.network.shapes.get(other) == shape:
                seen.add(other)
                maker = known.makers.get(other)
                if other in below or maker is None or maker.op not in _MOVING:
                    queue.append(other)
    return ""


def _order(node: Node) -> tuple[int, ...]:
    """Return the order into which a Transpose brings the axes; empty for other operators."""
    return tuple(node.attributes.get("perm", ())) if node.op == "Transpose" else ()


def _constant(known: _Finder, node: Node) -> bool:
    return node.inputs[1] in known.network.graph.constants
