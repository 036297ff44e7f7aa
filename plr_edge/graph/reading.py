"""Reading a serialised ONNX model as a `Graph`, within limits. Needs neither onnx nor torch.

It refuses what a `Graph` cannot say: graphs inside nodes, functions, sparse tensors, sequences, and
data in other files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from plr_edge.errors import GraphError
from plr_edge.graph.graph import Graph, Node
from plr_edge.graph.wire import Buffer, fields, message, signed, text, varints

_MAX_NODES, _MAX_TENSORS, _MAX_NAMES = 20_000, 20_000, 256
_MAX_ELEMENTS, _MAX_LIST, _MAX_AXES = 1 << 28, 1 << 16, 16
# field numbers of onnx.proto
_OPSET, _GRAPH, _TRAINING, _FUNCTIONS = 8, 7, 20, 25
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15
_F, _I, _S, _T, _FLOATS, _INTS, _STRINGS, _TENSORS = 2, 3, 4, 5, 7, 8, 9, 10
_ATTRIBUTE_REST = (6, 11, 14, 15, 22, 23)  # graphs, types, sparse tensors
_TYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2",
    11: "<f8", 12: "<u4", 13: "<u8",
}  # fmt: skip


def read_graph(data: Buffer) -> Graph:
    """Read a serialised model.

    Args:
        data: the model. Arrays of the graph are views of it where that is possible.

    Returns:
        The graph, whose nodes of the operator Constant have become constants.

    Raises:
        GraphError: the model is damaged, exceeds a limit, or holds what a `Graph` cannot say.
    """
    opset, graphs = 0, []
    try:
        for number, value in fields(data):
            if number == _OPSET:
                opset = _opset(message(value)) or opset
            elif number == _GRAPH:
                graphs.append(message(value))
            elif number in (_TRAINING, _FUNCTIONS):
                raise ValueError("it holds training graphs or functions of its own")
        if len(graphs) != 1 or not 1 <= opset <= 1000:
            raise ValueError(f"it holds {len(graphs)} graphs of opset {opset}; it must hold one")
        return _graph(graphs[0], opset)
    except GraphError as error:
        raise GraphError(f"the ONNX model is refused: {error}") from None
    except (ValueError, OverflowError) as error:
        raise GraphError(f"the ONNX model is refused: {error}") from None


def _opset(data: memoryview) -> int:
    """Return the version of ONNX's own operators, or 0 if this message is about others."""
    domain, version = "", 0
    for number, value in fields(data):
        if number == 1:
            domain = text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    return version if domain in ("", "ai.onnx") else 0


def _graph(data: memoryview, opset: int) -> Graph:
    nodes: list[Node] = []
    constants: dict[str, np.ndarray] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    for number, value in fields(data):
        if number == _NODE:
            node = _node(message(value))
            if node.op == "Constant":
                _add(constants, node.outputs[0] if node.outputs else "", _constant(node))
            else:
                nodes.append(node)
        elif number == _INITIALIZER:
            _add(constants, *_tensor(message(value)))
        elif number in (_INPUT, _OUTPUT):
            (inputs if number == _INPUT else outputs).append(_name(message(value)))
        elif number == _SPARSE:
            raise ValueError("it holds sparse tensors")
        if len(nodes) > _MAX_NODES or max(len(inputs), len(outputs)) > _MAX_NAMES:
            raise ValueError(
                f"it has more than {_MAX_NODES} nodes, or {_MAX_NAMES} inputs or outputs"
            )
    return Graph(
        nodes=tuple(nodes),
        inputs=tuple(name for name in inputs if name not in constants),  # with IR 3 both
        outputs=tuple(outputs),
        constants=constants,
        opset=opset,
    )


def _add(constants: dict[str, np.ndarray], name: str, array: np.ndarray) -> None:
    if name in constants or not name:
        raise ValueError(f"the constant {name[:60]!r} is given twice, or has no name")
    constants[name] = array
    if len(constants) > _MAX_TENSORS:
        raise ValueError(f"it has more than {_MAX_TENSORS} constants")


def _name(data: memoryview) -> str:
    """Return the name of an input or an output."""
    return next((text(value) for number, value in fields(data) if number == 1), "")


def _node(data: memoryview) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, Any] = {}
    op = name = domain = ""
    for number, value in fields(data):
        if number in (1, 2):
            (inputs if number == 1 else outputs).append(text(value))
        elif number == 3:
            name = text(value)
        elif number == 4:
            op = text(value)
        elif number == 5:
            key, found = _attribute(message(value))
            attributes[key] = found
        elif number == 7:
            domain = text(value)
        if max(len(inputs), len(outputs), len(attributes)) > _MAX_LIST:
            raise ValueError(f"a node has more than {_MAX_LIST} inputs, outputs or attributes")
    op = op if domain in ("", "ai.onnx") else f"{domain}.{op}"
    return Node(
        op=op, inputs=tuple(inputs), outputs=tuple(outputs), attributes=attributes, name=name
    )


def _attribute(data: memoryview) -> tuple[str, Any]:
    """Return name and value of an attribute: what is not written is 0, or empty."""
    name, kind = "", 0
    single: Any = None
    many: list[Any] = []
    for number, value in fields(data):
        if number == 1:
            name = text(value)
        elif number == 20 and isinstance(value, int):
            kind = value
        elif number == _I and isinstance(value, int):
            single = signed(value)
        elif number == _F:
            single = float(np.frombuffer(_sized(value, 4), "<f4")[0])
        elif number == _S:
            single = text(value)
        elif number == _T:
            single = _tensor(message(value))[1]
        elif number == _INTS:
            many += [signed(n) for n in _limited(varints(value))]
        elif number == _FLOATS:
            many += np.frombuffer(message(value), "<f4").tolist()
        elif number == _STRINGS:
            many.append(text(value))
        elif number == _TENSORS or number in _ATTRIBUTE_REST:
            raise ValueError(f"the attribute {name[:40]!r} is a graph, a type or a list of tensors")
        if len(many) > _MAX_LIST:
            raise ValueError(f"the attribute {name[:40]!r} has more than {_MAX_LIST} values")
    zeros = {1: 0.0, 2: 0, 3: ""}
    if single is None and not many and kind in zeros:
        return name, zeros[kind]
    return name, many if single is None else single


def _limited(values: Iterator[int]) -> list[int]:
    """Return the values of a list, and refuse one that is too long before it is built."""
    found = []
    for value in values:
        found.append(value)
        if len(found) > _MAX_LIST:
            raise ValueError(f"a list has more than {_MAX_LIST} values")
    return found


def _sized(value: int | memoryview, size: int) -> memoryview:
    data = message(value)
    if len(data) != size:
        raise ValueError(f"it is damaged: a value has {len(data)} bytes instead of {size}")
    return data


def _constant(node: Node) -> np.ndarray:
    """Return the value of a node of the operator Constant."""
    for name, dtype in (("value_float", "<f4"), ("value_floats", "<f4"),
                        ("value_int", "<i8"), ("value_ints", "<i8")):  # fmt: skip
        if name in node.attributes:
            return np.array(node.attributes[name], dtype)
    value = node.attributes.get("value")
    if not isinstance(value, np.ndarray):
        raise ValueError("a Constant holds no array of numbers")
    return value


def _tensor(data: memoryview) -> tuple[str, np.ndarray]:
    """Return name and values of a tensor."""
    name, kind, raw = "", 0, memoryview(b"")
    dims: list[int] = []
    typed: list[memoryview | int] = []
    for number, value in fields(data):
        if number == 1:
            dims += _limited(varints(value))
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = text(value)
        elif number == 9:
            raw = message(value)
        elif number in (4, 5, 7, 10, 11):
            typed.append(value)
        elif number in (3, 6, 13) or (number == 14 and value != 0):
            raise ValueError(f"the tensor {name[:60]!r} holds text or lies in another file")
    if kind not in _TYPES or len(dims) > _MAX_AXES:
        raise ValueError(
            f"the tensor {name[:60]!r} has {len(dims)} axes of type {kind}; float, integer and "
            f"bool types with up to {_MAX_AXES} axes can be read"
        )
    dtype, n = np.dtype(_TYPES[kind]), math.prod(dims)
    if n > _MAX_ELEMENTS:
        raise ValueError(f"the tensor {name[:60]!r} has {n} values; {_MAX_ELEMENTS} is the limit")
    array = np.frombuffer(raw, dtype) if len(raw) % dtype.itemsize == 0 else np.zeros(0, dtype)
    if not len(raw) and typed:
        array = _typed(typed, dtype, n)
    if array.size != n:
        raise ValueError(f"the tensor {name[:60]!r} holds {array.size} values instead of {n}")
    return name, array.reshape(dims)


def _typed(parts: list[memoryview | int], dtype: np.dtype[Any], n: int) -> np.ndarray:
    """Return the values of a tensor that were written field by field."""
    if dtype.str in ("<f4", "<f8"):
        return np.frombuffer(b"".join(message(part) for part in parts), dtype)
    values = (number & (1 << 64) - 1 for part in parts for number in varints(part))
    wide = np.fromiter(values, np.uint64, -1 if n == 0 else n)
    if dtype.kind == "f":  # float16 is written as the integer with the same bits
        return wide.astype(np.uint16).view(dtype)
    return wide.astype(dtype) if dtype.kind == "b" else wide.view(np.int64).astype(dtype)
