"""Limits on an untrusted ONNX model, checked before any runtime sees it.

Reads the wire format itself, because a board has no onnx package. Fields that it does not know are
left to the runtime, whose first run takes place in a child process.
"""

from __future__ import annotations

from plr_edge.graph.wire import Buffer, fields, message, text, varints

_MAX_NODES = 20_000
_MAX_TENSORS = 20_000
_MAX_ELEMENTS = 1 << 28
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_CONTROL_FLOW = ("Loop", "Scan", "If", "SequenceMap", "Optional")
_COMPILED = "EPContext"  # native code of a compiled engine, which TensorRT would run
# field numbers of onnx.proto
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_DIMS, _EXTERNAL_DATA, _DATA_LOCATION = 1, 13, 14


def check_onnx(data: Buffer) -> None:
    """Refuse a model with external data, control flow, functions, compiled parts or huge tensors.

    Args:
        data: the serialised model.

    Raises:
        ValueError: it has one of these, or is damaged.
    """
    graphs = 0
    for field, value in fields(data):
        if field == _FUNCTIONS:
            raise ValueError("it defines functions of its own")
        if field == _TRAINING:
            raise ValueError("it contains training graphs")
        if field == _GRAPH:
            graphs += 1
            _check_graph(message(value))
    if graphs != 1:
        raise ValueError(f"it contains {graphs} graphs; there must be one")


def _check_graph(data: Buffer) -> None:
    n_nodes = n_tensors = 0
    for field, value in fields(data):
        if field == _NODE:
            n_nodes += 1
            _check_node(message(value))
        elif field == _INITIALIZER:
            n_tensors += 1
            _check_tensor(message(value))
        elif field == _SPARSE:
            raise ValueError("it contains sparse tensors")
    if n_nodes > _MAX_NODES or n_tensors > _MAX_TENSORS:
        raise ValueError(
            f"it contains {n_nodes} nodes and {n_tensors} tensors; the limits are {_MAX_NODES} and "
            f"{_MAX_TENSORS}"
        )


def _check_node(data: Buffer) -> None:
    for field, value in fields(data):
        if field == _OP_TYPE:
            name = text(value)
            if name.startswith(_CONTROL_FLOW):
                raise ValueError(f"it contains control flow ({name[:40]})")
            if name.startswith(_COMPILED):
                raise ValueError("it contains a compiled part")
        elif field == _DOMAIN:
            domain = text(value)
            if domain not in _DOMAINS:
                raise ValueError(f"it contains operators of the domain {domain[:40]!r}")
        elif field == _ATTRIBUTE:
            for inner, part in fields(message(value)):
                if inner in _ATTRIBUTE_GRAPHS:
                    raise ValueError("it contains control flow (a graph inside a node)")
                if inner in _ATTRIBUTE_SPARSE:
                    raise ValueError("it contains sparse tensors")
                if inner in _ATTRIBUTE_TENSORS:
                    _check_tensor(message(part))


def _check_tensor(data: Buffer) -> None:
    n_elements = 1
    for field, value in fields(data):
        if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
            raise ValueError("it keeps data in another file")
        if field == _DIMS:
            for n in varints(value):
                n_elements *= n
            if n_elements > _MAX_ELEMENTS:
                raise ValueError(f"it contains a tensor larger than {_MAX_ELEMENTS} values")
