"""Network: a graph of ONNX operators with what is known of its values, and its ONNX model.

Every network that is not built in comes in as one of these, from a torch module or an .onnx file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.graph.graph import Graph, Node

IR_VERSION = 10  # ONNX Runtime for Python 3.10 refuses 12 and above
_DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
           "float64": 11}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where in a torch network a value is made.

    Attributes:
        path: name of the module and of those around it, outermost first; the network itself is "".
        classes: class of each, with its package.
    """

    path: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A graph from an image to one or more outputs.

    Attributes:
        graph: the graph; its only input is the image (B, ...) float32.
        input_shape: shape of one input.
        scopes: where values are made, by name, as far as it is known.
        parameters: constants that the network's author trains, by name; None if not known.
        shapes: shape of each value for a batch of one, without the batch axis.
    """

    graph: Graph
    input_shape: tuple[int, ...]
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    parameters: frozenset[str] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """Name of the input."""
        return self.graph.inputs[0]

    def with_graph(self, graph: Graph) -> Network:
        """Return the network with another graph."""
        return replace(self, graph=graph)


def pruned(graph: Graph) -> Graph:
    """Return a graph without nodes and constants that no output needs."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(filter(None, node.inputs))
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    return replace(graph, nodes=tuple(reversed(kept)), constants=constants)


def consumers(graph: Graph) -> dict[str, list[Node]]:
    """Return the nodes that take each value."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(filter(None, node.inputs)):
            found.setdefault(name, []).append(node)
    return found


def producers(graph: Graph) -> dict[str, Node]:
    """Return the node that makes each value."""
    return {name: node for node in graph.nodes for name in node.outputs if name}


def fresh(taken: Iterable[str], name: str) -> str:
    """Return `name`, or `name_2`, `name_3`, ... if it is taken."""
    held = taken if isinstance(taken, (set, frozenset, dict)) else set(taken)
    at, found = 2, name
    while found in held:
        found, at = f"{name}_{at}", at + 1
    return found


def names_of(graph: Graph) -> set[str]:
    """Return the names of all values of a graph."""
    made = {name for node in graph.nodes for name in node.outputs}
    return {*graph.inputs, *graph.constants, *made}


def model_of(
    graph: Graph,
    shapes: Mapping[str, Sequence[int | str | None] | None],
    dtypes: Mapping[str, str] = {},
) -> onnx.ModelProto:
    """Return the ONNX model of a graph.

    Args:
        graph: the graph.
        shapes: shape of inputs and outputs, batch axis included; a name stands for a free axis.
            Outputs without one get none.
        dtypes: type of an output that is not float32.
    """

    def info(name: str) -> onnx.ValueInfoProto:
        kind = _DTYPES[dtypes.get(name, "float32")]
        return helper.make_tensor_value_info(name, kind, shapes.get(name))

    nodes = []
    for at, node in enumerate(graph.nodes):
        *domain, op = node.op.rsplit(".", 1)
        made = helper.make_node(
            op, list(node.inputs), list(node.outputs), name=node.name or f"node_{at}",
            domain=domain[0] if domain else "",
        )  # fmt: skip
        made.attribute.extend(_attribute(*one) for one in sorted(node.attributes.items()))
        nodes.append(made)
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), name)
        for name, a in graph.constants.items()
    ]
    proto = helper.make_graph(
        nodes, "main", [info(n) for n in graph.inputs], [info(n) for n in graph.outputs], tensors
    )
    domains = {node.op.rsplit(".", 1)[0] for node in graph.nodes if "." in node.op}
    opsets = [("", graph.opset), *((domain, 1) for domain in sorted(domains))]
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid(*one) for one in opsets],
        producer_name="plr-edge",
    )  # fmt: skip
    model.ir_version = IR_VERSION
    return model


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if isinstance(value, list) and not value:
        return helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, value)


def run_graph(graph: Graph, image: np.ndarray, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute values of a graph in ONNX Runtime.

    Args:
        graph: the graph.
        image: (B, ...) float32.
        wanted: names of the values, constants included.

    Returns:
        The values by name.

    Raises:
        EngineError: ONNX Runtime cannot run the graph.
    """
    found = {name: graph.constants[name] for name in wanted if name in graph.constants}
    rest = tuple(name for name in dict.fromkeys(wanted) if name not in found)
    if rest:
        part = pruned(replace(graph, outputs=rest))
        model = model_of(part, {name: [None] * image.ndim for name in graph.inputs})
        for output in model.graph.output:  # their types are not known yet
            output.ClearField("type")
        engine = OnnxEngine(model.SerializeToString(), optimise=False)
        found.update(zip(rest, engine.run(image), strict=True))
    return found
