"""The values of a graph at which the levels of an adaptive part begin. Needs torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from plr_edge.errors import GraphError
from plr_edge.graph.graph import Graph
from plr_edge.graph.module import GraphModule


def level_values(
    graph: Graph, names: Sequence[str], shapes: Sequence[tuple[int, ...]], weights: Collection[str]
) -> tuple[str, ...]:
    """Find where the blocks of an adaptive part begin, by their weights and the shapes before them.

    A weight belongs to the block whose name its own begins with. Where several values would do,
    the activation behind a layer stays with the layer.

    Args:
        graph: the graph from latent to feature.
        names: names of the blocks in order.
        shapes: shape of the input of each block without the batch, and that of the feature.
        weights: names of the weights.

    Returns:
        The name of the input of each block, and that of the feature.

    Raises:
        GraphError: a block cannot be found.
    """
    if not names:
        return graph.outputs
    values = (*graph.inputs, *graph.cut_values, *graph.outputs)
    parts = list(graph.segments(graph.cut_values))
    found = _shapes(graph, parts, shapes[0])
    owners = {weight: _owner(weight, names) for weight in weights}
    used = [{owners[name] for name in part.constants if name in owners} for part in parts]
    at, places = len(values) - 1, [len(values) - 1]
    for level in range(len(names) - 1, 0, -1):
        fits = [
            place
            for place in range(at + 1)
            if found[place] == tuple(shapes[level])
            and all(owner < level for part in used[:place] for owner in part)
            and all(owner >= level for part in used[place:] for owner in part)
        ]
        if not fits:
            raise GraphError(f"no value of the graph is the input of the block {names[level]!r}")
        before = [place for place in fits if place < at]
        at = before[-1] if before else fits[-1]
        places.append(at)
    return tuple(values[place] for place in (0, *reversed(places)))


def _shapes(
    graph: Graph, parts: Sequence[Graph], latent_shape: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Return the shape of the input, of each cut value and of the output, without the batch."""
    x = torch.zeros(2, *latent_shape)
    shapes = [tuple(x.shape[1:])]
    with torch.no_grad():
        for part in parts:
            x = GraphModule(part)(x)
            shapes.append(tuple(x.shape[1:]))
    return shapes


def _owner(weight: str, names: Sequence[str]) -> int:
    """Return the index of the block that a weight belongs to."""
    owners = [at for at, name in enumerate(names) if weight.startswith(f"{name}.")]
    if not owners:
        raise GraphError(f"the weight {weight[:60]!r} belongs to no block")
    return max(owners, key=lambda at: len(names[at]))
