"""The adaptive part of a bundle as torch modules, built from adaptive.onnx. Needs torch, not onnx.

The code that made the network is not needed, nor are the libraries that it came from.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import nn

from plr_edge.bundle.bundle import Bundle, weights_in
from plr_edge.errors import BackboneError, BundleError, GraphError, one_line
from plr_edge.graph.graph import Graph
from plr_edge.graph.levels import level_values
from plr_edge.graph.module import GraphBlocks, GraphModule
from plr_edge.graph.reading import read_graph
from plr_edge.graph.simplify import with_fixed_shapes
from plr_edge.replay.schedule import Level

_N = 4  # latents to compare
_OF_RUNNING = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
_TOLERANCE = 1e-3  # of the largest value of a feature


def adaptive_blocks(bundle: Bundle) -> GraphBlocks:
    """Build the adaptive part of a bundle, with the weights it was exported with.

    Args:
        bundle: the bundle.

    Returns:
        The blocks above the cut, one for each level but the last.

    Raises:
        BundleError: adaptive.onnx cannot be trained, or not be divided into the levels.
    """
    model, slots = bundle.read("adaptive.onnx"), bundle.manifest["adaptive_slots"]
    weights = set(slots)
    try:
        graph = readable_graph(model)
        values = bundle.level_values or begins_of(graph, bundle.levels, weights)
        blocks = blocks_of(graph, bundle.levels, values, weights)
        _check_levels(blocks, bundle.levels)
    except GraphError as error:
        raise BundleError(
            f"adaptive.onnx of {bundle.path} cannot be trained ({error}); export it again"
        ) from None
    own, exported = blocks.state_dict(), weights_in(model, slots)
    if not all(np.array_equal(own[name].numpy(), exported[name]) for name in weights):
        raise BundleError(
            f"adaptive_slots of {bundle.path} are not where the weights of adaptive.onnx lie; "
            "export it again"
        )
    return blocks


def _check_levels(blocks: GraphBlocks, levels: Sequence[Level]) -> None:
    """Run the blocks once, and check what they return against the shapes of the levels.

    Raises:
        GraphError: a block fails, or returns another shape.
    """
    x = torch.zeros(2, *levels[0].shape)
    for level, block, above in zip(levels, blocks, levels[1:], strict=False):
        try:
            with torch.no_grad():
                x = block(x)
            shape = tuple(x.shape)
        except _OF_RUNNING as error:
            reason = one_line(error, 200)
            raise GraphError(f"the level {level.name!r} cannot be run: {reason}") from None
        if shape != (2, *above.shape):
            raise GraphError(
                f"the level {level.name!r} returns the shape {shape[1:]}, not {above.shape}"
            )


def readable_graph(model: bytes) -> Graph:
    """Read an adaptive part in the form that can be divided.

    Raises:
        GraphError: the model is damaged, or holds what cannot be run.
    """
    return with_fixed_shapes(read_graph(model))


def begins_of(
    graph: Graph, levels: Sequence[Level], weights: Collection[str]
) -> tuple[str, ...]:  # fmt: skip
    """Find the values at which the levels begin; see `level_values`."""
    names, shapes = [level.name for level in levels[:-1]], [level.shape for level in levels]
    try:
        return level_values(graph, names, shapes, weights)
    except _OF_RUNNING as error:
        raise GraphError(one_line(error, 200)) from None


def blocks_of(
    graph: Graph, levels: Sequence[Level], values: Sequence[str], weights: Collection[str]
) -> GraphBlocks:
    """Build the block of each level.

    Args:
        graph: the adaptive part.
        levels: its levels, that of the classifier last.
        values: names of the values at which the levels begin.
        weights: names of the weights.

    Raises:
        GraphError: the graph cannot be divided there, or a weight is in none or several blocks.
    """
    names = [level.name for level in levels[:-1]]
    if len(values) != len(levels) or (values[0], values[-1]) not in _ends(graph, names):
        raise GraphError(f"it has {len(levels)} levels that begin at {list(values)[:4]}")
    parts = [GraphModule(part, weights) for part in graph.segments(values[1:-1])] if names else []
    found = [weight for part in parts for weight in part.weight_names]
    odd = set(weights) ^ set(found) or {name for name in found if found.count(name) > 1}
    if odd:
        raise GraphError(f"the weight {min(odd)[:60]!r} does not belong to exactly one block")
    return GraphBlocks(dict(zip(names, parts, strict=True)))


def _ends(graph: Graph, names: Sequence[str]) -> set[tuple[str, str]]:
    """Return the first and the last value that the levels of a graph may have."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise GraphError(
            f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs instead of one"
        )
    return {(graph.inputs[0] if names else graph.outputs[0], graph.outputs[0])}


def level_entries(
    model: bytes,
    levels: Sequence[Level],
    weights: Collection[str],
    adaptive: nn.Sequential,
    latents: np.ndarray,
) -> dict[str, list[str]]:
    """Return the entry of the manifest that tells where the levels begin, after trying it.

    Args:
        model: adaptive.onnx.
        levels: the levels.
        weights: names of the weights.
        adaptive: the blocks above the cut, to compare with.
        latents: (n, *latent shape) float32, to compare on.

    Returns:
        `level_values`, the name of the value at which each level begins.

    Raises:
        BackboneError: the trainer could not build the blocks, or they would return something else.
    """
    x = torch.from_numpy(latents[:_N])
    try:
        graph = readable_graph(model)
        if isinstance(adaptive, GraphBlocks) and len(adaptive):
            inner = [block.graph.inputs[0] for block in adaptive[1:]]
            values = (*graph.inputs, *inner, *graph.outputs)
        else:
            values = begins_of(graph, levels, weights)
        blocks = blocks_of(graph, levels, values, weights)
        with torch.no_grad():
            want, got = adaptive(x), blocks(x)
    except (GraphError, RuntimeError) as error:
        reason = one_line(error, 300)
        raise BackboneError(f"what lies above the cut cannot be trained: {reason}") from None
    difference = float((want - got).abs().max()) if want.shape == got.shape else math.inf
    if not difference <= _TOLERANCE * max(float(want.abs().max()), 1e-6):
        raise BackboneError(
            f"the trainer would run another network than the one above the cut: the features "
            f"differ by {difference:.3g}; nothing was written; cut later"
        )
    return {"level_values": list(values)}
