"""The two parts of a network as ONNX models: frozen.onnx with its taps, and adaptive.onnx."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from plr_edge.export.network import Network, fresh, model_of, names_of, pruned
from plr_edge.graph.graph import Graph, Node
from plr_edge.replay.latent_axes import pool_matrix

LATENT, TAPS, FEATURE, IMAGE = "latent", "taps", "feature", "image"
_TO = {"float32": 1, "float16": 10}


class _Builder:
    """Appends nodes and constants to a graph under new names."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.nodes = graph, list(graph.nodes)
        self.constants = dict(graph.constants)
        self.taken = names_of(graph)

    def name(self, wanted: str) -> str:
        self.taken.add(found := fresh(self.taken, wanted))
        return found

    def constant(self, wanted: str, array: np.ndarray) -> str:
        name = self.name(wanted)
        self.constants[name] = array
        return name

    def add(self, op: str, *inputs: str, to: str, **attributes: object) -> str:
        output = self.name(to)
        self.nodes.append(Node(op=op, inputs=inputs, outputs=(output,), attributes=attributes))
        return output

    def build(self, outputs: tuple[str, ...]) -> Graph:
        return pruned(
            replace(self.graph, nodes=tuple(self.nodes), constants=self.constants, outputs=outputs)
        )


def frozen_graph(
    network: Network, latent: str, taps: Sequence[tuple[str, str, int]], feature: str | None
) -> Graph:
    """Return the part from the image to a latent and the taps.

    Args:
        network: the network.
        latent: name of the value that becomes the latent.
        taps: name of each value that is tapped, what its axes mean, and the grid to pool it to.
        feature: name of the feature, if it is tapped as well.
    """
    build = _Builder(network.graph)
    flat = [_tap(build, value, network.shapes[value], axes, grid) for value, axes, grid in taps]
    if feature is not None:
        flat.append(feature)
    joined = build.add("Concat", *flat, to=TAPS, axis=1) if len(flat) > 1 else flat[0]
    out = build.add("Identity", joined, to=TAPS) if len(flat) == 1 else joined
    graph = build.build((latent, out))
    return _renamed(graph, {latent: LATENT, out: TAPS, graph.inputs[0]: IMAGE})


def adaptive_graph(network: Network, latent: str, feature: str) -> Graph:
    """Return the part from a latent to the feature."""
    if latent == feature:
        node = Node(op="Identity", inputs=(LATENT,), outputs=(FEATURE,))
        return Graph(
            nodes=(node,), inputs=(LATENT,), outputs=(FEATURE,), constants={},
            opset=network.graph.opset,
        )  # fmt: skip
    graph = network.graph.segment(latent, feature)
    return _renamed(graph, {latent: LATENT, feature: FEATURE})


def tap_shape(shape: tuple[int, ...], axes: str, grid: int) -> list[int]:
    """Return the shape of a tap: (C, grid, grid) of a map, else (C,)."""
    if axes in ("CHW", "HWC"):
        return [shape[0] if axes == "CHW" else shape[2], grid, grid]
    return [{"ND": shape[-1], "CT": shape[0]}.get(axes, math.prod(shape))]


def part_model(graph: Graph, shapes: Mapping[str, tuple[int, ...]], *, half: bool = False) -> bytes:
    """Return a part as a serialised model with a free batch axis.

    Args:
        graph: the part.
        shapes: shapes of its inputs and outputs, without the batch axis.
        half: compute in float16, with float32 inputs and outputs.
    """
    used: dict[str, Sequence[int | str | None] | None] = {
        name: ("batch", *shape) for name, shape in shapes.items()
    }
    model = model_of(_halved(graph) if half else graph, used)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _tap(build: _Builder, value: str, shape: tuple[int, ...], axes: str, grid: int) -> str:
    if len(shape) == 1:
        return value
    if axes in ("CHW", "HWC"):
        rows, columns = shape[1:] if axes == "CHW" else shape[:2]
        # one product for both axes takes a fifth of the time of two
        cells = np.kron(pool_matrix(rows, grid), pool_matrix(columns, grid)).T.copy()
    else:
        n = shape[0] if axes == "ND" else shape[1]
        cells = np.full((n, 1), 1.0 / n)
    cells = cells.astype(np.float32)
    last = value
    if axes in ("HWC", "CHW"):
        channels = shape[0] if axes == "CHW" else shape[2]
        order = (channels, -1) if axes == "CHW" else (-1, channels)
        wanted = build.constant("tap_shape", np.array([0, *order], np.int64))
        last = build.add("Reshape", value, wanted, to="tap_cells")
    if axes in ("CHW", "CT"):
        last = build.add("MatMul", last, build.constant("cells", cells), to="tap_pooled")
    else:
        last = build.add("Transpose", last, to="tap_channels", perm=[0, 2, 1])
        last = build.add("MatMul", last, build.constant("cells", cells), to="tap_pooled")
    return build.add("Flatten", last, to="tap", axis=1)


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """Rename values; what is called so already gets another name."""
    held = names_of(graph)
    moved = {new: fresh(held, f"{new}_inner") for old, new in names.items()
             if new in held and new not in names and old != new}  # fmt: skip
    return graph.renamed({**moved, **{old: new for old, new in names.items() if old != new}})


def _halved(graph: Graph) -> Graph:
    """Return a graph that computes in float16 between casts of its inputs and outputs."""
    keep = {n.inputs[i] for n in graph.nodes if n.op == "Resize"
            for i in (1, 2) if i < len(n.inputs)}  # fmt: skip
    constants = {
        name: array.astype(np.float16) if array.dtype == np.float32 and name not in keep else array
        for name, array in graph.constants.items()
    }
    inner = {name: f"{name}_half" for name in (*graph.inputs, *graph.outputs)}
    nodes = [Node(op="Cast", inputs=(name,), outputs=(inner[name],), attributes={"to": 10})
             for name in graph.inputs]  # fmt: skip
    for node in graph.nodes:
        attributes = dict(node.attributes)
        if node.op == "Cast" and attributes.get("to") == _TO["float32"]:
            attributes["to"] = _TO["float16"]
        if node.op == "ConstantOfShape" and isinstance(attributes.get("value"), np.ndarray):
            value = attributes["value"]
            attributes["value"] = value.astype(np.float16) if value.dtype == np.float32 else value
        nodes.append(
            replace(
                node, inputs=tuple(inner.get(n, n) for n in node.inputs),
                outputs=tuple(inner.get(n, n) for n in node.outputs), attributes=attributes,
            )
        )  # fmt: skip
    nodes += [Node(op="Cast", inputs=(inner[name],), outputs=(name,), attributes={"to": 1})
              for name in graph.outputs]  # fmt: skip
    return replace(graph, nodes=tuple(nodes), constants=constants)
