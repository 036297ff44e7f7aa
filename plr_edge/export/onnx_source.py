"""An .onnx file of any maker as a `Network`: checked, in float32, with images as (B, C, H, W)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.inliner import inline_local_functions

from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import BackboneError, EngineError, GraphError, one_line
from plr_edge.export.exporter import OPSET
from plr_edge.export.folding import folded, untied
from plr_edge.export.network import Network, fresh, model_of, names_of, pruned
from plr_edge.export.normalise import normalised
from plr_edge.export.pools import with_pools
from plr_edge.export.torch_source import scopes_of
from plr_edge.graph.graph import Graph, Node
from plr_edge.graph.reading import read_graph

_log = logging.getLogger(__name__)
_MAX_BYTES = (1 << 31) - (1 << 20)
_DOMAINS = ("", "ai.onnx")
_QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
              "ConvInteger", "MatMulInteger")  # fmt: skip
_CONTROL = ("If", "Loop", "Scan", "SequenceMap", "Optional")
_OLDEST = 7


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """An .onnx file, with its images as (B, C, H, W).

    Attributes:
        network: the network in the form that can be divided.
        run: what the file itself answers to (B, C, H, W) float32, in ONNX Runtime.
        half: whether its weights are float16.
    """

    network: Network
    run: Callable[[torch.Tensor], torch.Tensor]
    half: bool


@dataclass(frozen=True, kw_only=True)
class _Image:
    """The input of a file: its name, its shape in the file, and whether channels come last."""

    name: str
    dims: list[int]
    last: bool


def network_of_file(
    path: Path, input_shape: tuple[int, ...] | None, layout: str | None
) -> OnnxFile:
    """Read an .onnx file.

    Args:
        path: the file; data that it keeps in other files lie beside it.
        input_shape: shape of an input (C, H, W) or (C, T); that in the file by default.
        layout: `nchw` or `nhwc`; found from the shape in the file by default.

    Raises:
        BackboneError: the file cannot be read, or holds what cannot be exported.
    """
    model = _loaded(path)
    _check(path, model)
    image = _image(path, model, layout)
    shape = _shape(path, image, input_shape)
    scopes = scopes_of(model)
    try:
        graph = read_graph(model.SerializeToString())
        half = any(array.dtype == np.float16 for array in graph.constants.values())
        batch = image.dims[0] if image.dims[0] > 0 else None
        given = _runner(model, image, batch)
        graph = pruned(_widened(graph) if half else graph)
        graph = _newer(graph, image, shape)
        if image.last:
            graph = _channels_first(graph, shape)
        network = Network(graph=graph, input_shape=shape, scopes=scopes)
        network = untied(folded(with_pools(normalised(network, batch))))
    except GraphError as error:
        raise BackboneError(f"{path}: {error}") from None
    except EngineError as error:
        raise BackboneError(
            f"{path} does not run on an input of shape {shape} ({error}); give its own with "
            "--input-shape and --layout"
        ) from None
    return OnnxFile(network=network, run=given, half=half)


def _loaded(path: Path) -> onnx.ModelProto:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BackboneError(f"{path} is larger than 2 GB; give a smaller network")
        return onnx.load(str(path))
    except OSError as error:
        raise BackboneError(f"cannot read {path}: {error.strerror or error}") from None
    except BackboneError:
        raise
    except Exception as error:  # protobuf and onnx raise many kinds
        reason = one_line(error, 200)
        raise BackboneError(f"{path} is not an ONNX model, or its data are missing ({reason})"
                            ) from None  # fmt: skip


def _check(path: Path, model: onnx.ModelProto) -> None:
    """Refuse what cannot be exported, by its name."""
    graph = model.graph
    names = [
        *(text for n in graph.node for text in (n.op_type, n.name, n.domain, *n.input, *n.output)),
        *(one.name for group in (graph.input, graph.output, graph.initializer) for one in group),
        *(one.name for node in graph.node for one in node.attribute),
        *(one.domain for one in model.opset_import),
    ]
    if not all(isinstance(name, str) for name in names):  # protobuf returns bytes for these
        raise BackboneError(f"{path} is damaged: it holds names that are not text")
    if not model.graph.node:
        raise BackboneError(f"{path} is not an ONNX model: it holds no operators")
    if model.training_info:
        raise BackboneError(f"{path} holds a training graph; export the network for inference")
    if model.functions:
        model.CopyFrom(inline_local_functions(model))
    ops = {node.op_type for node in model.graph.node}
    for kind, says in (
        (_QUANTISED, "is quantised; give the float model, and export it with --precision int8"),
        (_CONTROL, "holds control flow; export the network without it"),
    ):
        found = sorted(op for op in ops if op.startswith(kind))
        if found:
            raise BackboneError(f"{path} {says} (it holds {', '.join(found)})")
    odd = sorted({node.domain for node in model.graph.node} - {*_DOMAINS})
    if odd:
        op = next(node.op_type for node in model.graph.node if node.domain == odd[0])
        raise BackboneError(
            f"{path} holds operators of the domain {odd[0][:40]!r}, such as {op[:40]}; only ONNX's "
            "own can be exported"
        )
    opset = next((one.version for one in model.opset_import if one.domain in _DOMAINS), 0)
    if opset < _OLDEST:
        raise BackboneError(f"{path} has opset {opset}; {_OLDEST} and newer can be read")
    modes = [a.i for n in model.graph.node if n.op_type == "BatchNormalization"
             for a in n.attribute if a.name == "training_mode"]  # fmt: skip
    if any(modes):
        raise BackboneError(
            f"{path} holds BatchNormalization in training mode; export the network in eval mode"
        )


def _image(path: Path, model: onnx.ModelProto, layout: str | None) -> _Image:
    """Find the input that takes the image, and tell where its channels are."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in held]
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in kinds:
        listed = ", ".join(repr(one.name) for one in inputs[:5]) or "none"
        raise BackboneError(
            f"{path} has {len(inputs)} inputs ({listed}); a network must have one, of float32 "
            "images or sequences"
        )
    dims = [one.dim_value for one in inputs[0].type.tensor_type.shape.dim]
    if len(dims) not in (3, 4):
        raise BackboneError(
            f"the input of {path} has {len(dims)} axes; an image has 4 with that of the batch, a "
            "sequence 3"
        )
    seen = len(dims) == 4 and dims[3] in (1, 3) and dims[1] not in (1, 3)
    return _Image(name=inputs[0].name, dims=dims, last=seen if layout is None else layout == "nhwc")


def _shape(path: Path, image: _Image, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of an input, channels first."""
    own = image.dims[1:]
    own = [own[-1], *own[:-1]] if image.last else own
    if wanted is None:
        if not all(own):
            raise BackboneError(
                f"{path} leaves the size of its input free ({own}, 0 is free); give it with "
                "--input-shape C,H,W"
            )
        return tuple(own)
    if len(wanted) != len(own) or any(n not in (0, w) for n, w in zip(own, wanted, strict=True)):
        raise BackboneError(
            f"{path} takes inputs of shape {tuple(own)} (0 is free), not {wanted}; give another "
            "--input-shape"
        )
    return wanted


def _runner(
    model: onnx.ModelProto, image: _Image, batch: int | None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that runs the file itself."""
    engine = OnnxEngine(model.SerializeToString(), optimise=True)
    half = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16

    def run(images: torch.Tensor) -> torch.Tensor:
        x = images.numpy()
        if image.last:
            x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        x = x.astype(np.float16) if half else x
        n = len(x) if batch is None else batch
        rest = -len(x) % n
        x = np.concatenate([x, x[:1].repeat(rest, 0)]) if rest else x
        parts = [engine.run(x[i : i + n])[0] for i in range(0, len(x), n)]
        return torch.from_numpy(np.concatenate(parts)[: len(images)].astype(np.float32))

    return run


def _widened(graph: Graph) -> Graph:
    """Return a graph that computes in float32 what it computed in float16."""
    constants = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in graph.constants.items()
    }
    nodes = []
    for node in graph.nodes:
        attributes = dict(node.attributes)
        if node.op == "Cast" and attributes.get("to") == onnx.TensorProto.FLOAT16:
            attributes["to"] = onnx.TensorProto.FLOAT
        value = attributes.get("value")
        if isinstance(value, np.ndarray) and value.dtype == np.float16:
            attributes["value"] = value.astype(np.float32)
        nodes.append(replace(node, attributes=attributes))
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _newer(graph: Graph, image: _Image, shape: tuple[int, ...]) -> Graph:
    """Return a graph of the opset that bundles have, or itself if the converter cannot do it."""
    if graph.opset == OPSET:
        return graph
    own = (*shape[1:], shape[0]) if image.last else shape
    model = model_of(graph, {image.name: (image.dims[0] or "batch", *own)})
    try:
        model = onnx.shape_inference.infer_shapes(model)
        converted = onnx.version_converter.convert_version(model, OPSET)
        onnx.checker.check_model(converted)
        return read_graph(converted.SerializeToString())
    except Exception as error:  # the converter has no adapter for some operators
        _log.debug("opset %d is kept: %s", graph.opset, error)
        return graph


def _channels_first(graph: Graph, shape: tuple[int, ...]) -> Graph:
    """Return a graph that takes images (B, C, H, W)."""
    (name,) = graph.inputs
    first = fresh(names_of(graph), "image")
    order = [0, *range(2, len(shape) + 1), 1]
    node = Node(op="Transpose", inputs=(first,), outputs=(name,), attributes={"perm": order})
    return replace(graph, nodes=(node, *graph.nodes), inputs=(first,))
