"""The operators that a `GraphModule` can run, and which of a graph it cannot. Needs torch.

A new operator is a function from a `Call` to what runs it, and a line in one of the tables below.
tests/graph compares each with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable

from plr_edge.errors import GraphError, one_line
from plr_edge.graph.call import Call, Run
from plr_edge.graph.elementwise import ELEMENTWISE
from plr_edge.graph.graph import Graph, Node
from plr_edge.graph.layers import LAYERS
from plr_edge.graph.resizing import RESIZING
from plr_edge.graph.shaping import SHAPING

OPERATORS: dict[str, Callable[[Call], Run]] = {**ELEMENTWISE, **LAYERS, **RESIZING, **SHAPING}


def build(node: Node, graph: Graph) -> Run:
    """Return what runs a node.

    Args:
        node: a node of the graph.
        graph: its graph, for the constants.

    Raises:
        GraphError: the operator, or one of its settings, is not known.
    """
    if node.op not in OPERATORS:
        raise GraphError(f"the operator {node.op[:60]}")
    constants = tuple(graph.constants.get(name) for name in node.inputs)
    call = Call(node, constants, graph.opset)
    try:
        return OPERATORS[node.op](call)
    except (TypeError, ValueError, AttributeError) as error:
        reason = one_line(error, 120)
        raise GraphError(f"{node.op} with settings of wrong types ({reason})") from None


def unsupported(graph: Graph) -> tuple[str, ...]:
    """Return what a `GraphModule` of a graph cannot run, each once, sorted; empty if it can."""
    found = set()
    for node in graph.nodes:
        try:
            build(node, graph)
        except GraphError as error:
            found.add(str(error))
    return tuple(sorted(found))
