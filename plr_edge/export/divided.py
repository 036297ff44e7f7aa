"""A network that came in as a graph, divided into blocks: the backbone, and its two ONNX parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from plr_edge.backbones.base import CLASSIFIER, Backbone
from plr_edge.bundle.bundle import splice
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BackboneError, GraphError
from plr_edge.export.axes import axes_of, finder
from plr_edge.export.cuts import Block, find_blocks
from plr_edge.export.feature import Feature, find_feature, with_feature
from plr_edge.export.folding import plainly_named, weights_of
from plr_edge.export.network import Network, run_graph
from plr_edge.export.parts import (
    FEATURE,
    IMAGE,
    LATENT,
    TAPS,
    adaptive_graph,
    frozen_graph,
    part_model,
    tap_shape,
)
from plr_edge.export.to_onnx import latent_grid, weight_slots
from plr_edge.graph.graph import Graph
from plr_edge.graph.module import GraphBlocks, GraphModule

_TOLERANCE = 1e-3  # of the largest value, between the network as it was given and its graph


@dataclass(frozen=True, kw_only=True)
class Divided:
    """A network with the blocks that it is divided into.

    Attributes:
        network: the network; its output is the feature.
        blocks: its blocks in order.
        found: where its feature is, and what was left out.
    """

    network: Network
    blocks: tuple[Block, ...]
    found: Feature

    @property
    def note(self) -> str:
        """What the user should know of how the network came in. Empty if there is nothing."""
        if not self.found.dropped:
            return ""
        return (
            f"{self.found.dropped} is left out; the feature is {self.found.value!r}; --feature "
            "NAME takes another one"
        )

    def value_of(self, cut: str) -> str:
        """Return the name of the value that becomes the latent of a cut."""
        if cut == CLASSIFIER:
            return self.feature
        return next(block.start for block in self.blocks if block.name == cut)

    @property
    def feature(self) -> str:
        """Name of the value that is the feature."""
        return self.network.graph.outputs[0]

    def latent_axes(self, cut: str) -> str:
        """Return what the axes of a latent mean: CHW, HWC, ND, CT or D."""
        return self.axes_of(self.value_of(cut))

    def axes_of(self, value: str) -> str:
        """Return what the axes of a value mean: CHW, HWC, ND, CT or D."""
        return axes_of(finder(self.network), value)


def divide(
    name: str, network: Network, preprocessing: Preprocessing,
    given: Callable[[torch.Tensor], torch.Tensor], feature: str | None = None,
) -> Backbone:  # fmt: skip
    """Make a backbone of a network.

    Args:
        name: name of the backbone.
        network: the whole network, with its classifier.
        preprocessing: how an image becomes its input.
        given: the network as its author gave it, (B, ...) to its first output.
        feature: value or module whose output is the feature; what the classifier takes by default.

    Raises:
        BackboneError: the network has no feature, or cannot be divided.
    """
    network = plainly_named(network)
    found = find_feature(network, feature)
    whole = with_feature(network, found.value)
    blocks = find_blocks(whole)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    weights = set(weights_of(whole))
    for block in blocks:
        modules[block.name] = block_module(whole.graph.segment(block.start, block.end), weights)
    return Backbone(
        name=name,
        blocks=GraphBlocks(modules),
        preprocessing=preprocessing,
        reference=_Reference(name, network, whole, given),
        divided=Divided(network=whole, blocks=tuple(blocks), found=found),
    )


def block_module(graph: Graph, weights: set[str]) -> nn.Module:
    """Return a graph as a module; one that torch cannot run is run by ONNX Runtime."""
    try:
        return GraphModule(graph, weights=[name for name in graph.constants if name in weights])
    except GraphError as error:
        return RuntimeBlock(graph, str(error))


class RuntimeBlock(nn.Module):
    """A block that can only be frozen: it holds operators that the trainer does not have."""

    def __init__(self, graph: Graph, trouble: str) -> None:
        super().__init__()
        self.graph, self.trouble = graph, trouble

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block in ONNX Runtime."""
        name = self.graph.outputs[0]
        return torch.from_numpy(run_graph(self.graph, x.detach().numpy(), [name])[name])


class _Reference:
    """Runs the network as it was given, and returns the feature of its whole graph.

    The graph must answer as the network does, so the feature within it is that of the network.
    """

    def __init__(
        self, name: str, network: Network, whole: Network,
        given: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:  # fmt: skip
        self.name, self.given = name, given
        outputs = (network.graph.outputs[0], whole.graph.outputs[0])
        nodes = {id(node): node for node in (*network.graph.nodes, *whole.graph.nodes)}
        constants = {**network.graph.constants, **whole.graph.constants}
        self.graph = replace(
            network.graph, nodes=tuple(nodes.values()), constants=constants, outputs=outputs
        )

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            want = self.given(images).numpy()
        answer, feature = self.graph.outputs
        parts = [images.numpy()[i : i + 8] for i in range(0, len(images), 8)]
        runs = [run_graph(self.graph, part, self.graph.outputs) for part in parts]
        got = np.concatenate([run[answer] for run in runs])
        if got.shape != want.shape or not _close(got, want):
            raise BackboneError(
                f"the graph of {self.name} does not answer as the network that was given does; "
                "nothing was written; look for layers that depend on the batch or on chance"
            )
        return torch.from_numpy(np.concatenate([run[feature] for run in runs]))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if not np.isfinite(b).all():
        return True  # `reference_features` refuses it
    return float(np.abs(a - b).max()) <= _TOLERANCE * max(float(np.abs(b).max()), 1e-6)


class FrozenGraph:
    """The frozen part of a divided network; see `FrozenPart`.

    Attributes:
        taps: grid of each tap, by the name of its block.
        tap_shapes: shape of each tap.
        taps_width: values of all taps.
    """

    def __init__(self, backbone: Backbone, cut: str, *, static_feature: bool = False) -> None:
        """Tap the latent, and the feature if it is asked for."""
        divided: Divided = backbone.divided
        network = divided.network
        names = backbone.block_names
        last = names[-1] if cut == CLASSIFIER else names[names.index(cut) - 1]
        self.latent = divided.value_of(cut)
        shape, axes = network.shapes[self.latent], divided.axes_of(self.latent)
        channels_first = (shape[2], *shape[:2]) if axes == "HWC" else shape
        grid = latent_grid(channels_first) if len(shape) == 3 else 1
        self.taps = {last: grid}
        self.tap_shapes = [tap_shape(shape, axes, grid)]
        feature = divided.feature if static_feature else None
        if feature is not None:
            self.tap_shapes.append(list(network.shapes[feature]))
        self.taps_width = sum(int(np.prod(one)) for one in self.tap_shapes)
        self.graph = frozen_graph(network, self.latent, [(self.latent, axes, grid)], feature)
        self.shapes = {IMAGE: network.input_shape, LATENT: shape, TAPS: (self.taps_width,)}

    def model(self, *, half: bool) -> bytes:
        """Return the serialised part, in float16 if `half`."""
        return part_model(self.graph, self.shapes, half=half)


def adaptive_template(
    backbone: Backbone, cut: str, weights: dict[str, np.ndarray]
) -> tuple[bytes, dict[str, tuple[int, list[int]]]]:
    """Return the adaptive part as a template with a slot for each weight.

    Args:
        backbone: the divided network.
        cut: name of a block, or `classifier`.
        weights: the weights above the cut, by name.

    Returns:
        model: the serialised model with the weights.
        slots: byte offset and shape of each weight in it, by name.
    """
    divided: Divided = backbone.divided
    latent = divided.value_of(cut)
    graph = adaptive_graph(divided.network, latent, divided.feature)
    random = np.random.default_rng(0)  # equal weights would not be found by their bytes
    stand_in = {n: random.standard_normal(a.shape, np.float32) for n, a in weights.items()}
    graph = replace(graph, constants={**graph.constants, **stand_in})
    shapes = divided.network.shapes
    model = part_model(graph, {LATENT: shapes[latent], FEATURE: shapes[divided.feature]})
    slots = weight_slots(model, stand_in, dict.fromkeys(stand_in, "the network"))
    return splice(model, slots, weights), slots
