"""Chains of operators that exporters write for one: run as one they take less time and memory.

Training keeps what every operator of a chain needs for its gradient. NumPy only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from plr_edge.graph.graph import Graph, Node

LINEAR = "plr_edge.Linear"  # x @ weight + bias, with a bias for each column


def fused(graph: Graph) -> tuple[Node, ...]:
    """Return the nodes of a graph with SiLU, GELU and linear layers as one node each.

    Values inside such a chain are not made any more; the outputs of the graph are.

    Args:
        graph: the graph.
    """
    chains = _Chains(graph)
    replaced: dict[int, Node] = {}  # by the place of the last node of a chain
    dropped: set[int] = set()
    for at, node in enumerate(graph.nodes):
        found = chains.silu(node) or chains.gelu(node) or chains.linear(node)
        if found is not None:
            replaced[at], inner = found
            dropped.update(chains.place[name] for name in inner)
    return tuple(replaced.get(at, node) for at, node in enumerate(graph.nodes) if at not in dropped)


class _Chains:
    """Looks for chains, from their last node backwards."""

    def __init__(self, graph: Graph) -> None:
        self.constants: Mapping[str, np.ndarray] = graph.constants
        self.place = {name: at for at, n in enumerate(graph.nodes) for name in n.outputs if name}
        self._nodes = graph.nodes
        self._uses = Counter(name for node in graph.nodes for name in node.inputs)
        self._uses.update(graph.outputs)

    def maker(self, name: str, op: str) -> Node | None:
        """Return the node of an operator that makes a value for one user alone."""
        at = self.place.get(name)
        if at is None or self._uses[name] != 1 or self._nodes[at].op != op:
            return None
        return self._nodes[at]

    def number(self, name: str) -> float | None:
        """Return a constant that is one number."""
        array = self.constants.get(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def scaled(self, node: Node | None, factor: float) -> str | None:
        """Return what a Mul or Div multiplies by a number close to `factor`."""
        if node is None:
            return None
        for x, other in (node.inputs, node.inputs[::-1]):
            number = self.number(other)
            if node.op == "Div":
                number = 1 / number if number and other == node.inputs[1] else None
            if number is not None and abs(number - factor) < 1e-6 * factor:
                return x
        return None

    def silu(self, node: Node) -> tuple[Node, list[str]] | None:
        """Find x * sigmoid(x)."""
        if node.op != "Mul":
            return None
        for x, gate in (node.inputs, node.inputs[::-1]):
            maker = self.maker(gate, "Sigmoid")
            if maker is not None and maker.inputs == (x,):
                return Node(op="Swish", inputs=(x,), outputs=node.outputs), [gate]
        return None

    def gelu(self, node: Node) -> tuple[Node, list[str]] | None:
        """Find x * (1 + erf(x / sqrt(2))) / 2, with the half at the end or before."""
        if node.op != "Mul":
            return None
        whole = self.scaled(node, 0.5)
        if whole is not None:  # (x * (1 + erf)) * 0.5
            product, half = self.maker(whole, "Mul"), [whole]
            pairs = () if product is None else (product.inputs, product.inputs[::-1])
            found = [(x, y, half) for x, y in pairs]
        else:  # x * (0.5 * (1 + erf))
            halves = ((x, y, self.maker(y, "Mul")) for x, y in (node.inputs, node.inputs[::-1]))
            found = [(x, self.scaled(half, 0.5) or "", [y]) for x, y, half in halves]
        for x, gate, inside in found:
            chain = self._one_plus_erf(x, gate)
            if chain is not None:
                return Node(op="Gelu", inputs=(x,), outputs=node.outputs), [*inside, *chain]
        return None

    def _one_plus_erf(self, x: str, gate: str) -> list[str] | None:
        """Return the values inside of gate = 1 + erf(x / sqrt(2)), itself included, or None."""
        add = self.maker(gate, "Add")
        for erf_of, one in () if add is None else (add.inputs, add.inputs[::-1]):
            erf = self.maker(erf_of, "Erf") if self.number(one) == 1.0 else None
            inner = "" if erf is None else erf.inputs[0]
            scale = self.maker(inner, "Div") or self.maker(inner, "Mul")
            if self.scaled(scale, 2**-0.5) == x:
                return [gate, erf_of, inner]
        return None

    def linear(self, node: Node) -> tuple[Node, list[str]] | None:
        """Find x @ weight + bias, where weight and bias are constants."""
        if node.op != "Add":
            return None
        for product, bias in (node.inputs, node.inputs[::-1]):
            maker, array = self.maker(product, "MatMul"), self.constants.get(bias)
            weight = None if maker is None else self.constants.get(maker.inputs[1])
            if maker is None or weight is None or array is None or weight.ndim != 2:
                continue
            if array.shape == weight.shape[1:]:
                inputs = (*maker.inputs, bias)
                return Node(op=LINEAR, inputs=inputs, outputs=node.outputs), [product]
        return None
