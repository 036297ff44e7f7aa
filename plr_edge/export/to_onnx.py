"""Converting modules to ONNX bytes: opset 18, IR 10, dynamic batch axis.

The bytes hold no paths, names or versions of the exporting machine.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from plr_edge.backbones.base import Backbone, named_blocks
from plr_edge.backbones.checks import BATCH
from plr_edge.errors import BackboneError, BundleError
from plr_edge.export.exporter import OPSET, cause, export_module
from plr_edge.export.precision import HalfPart
from plr_edge.export.split import block_costs, split
from plr_edge.replay.latent_axes import pool_matrix

_MAX_LATENT_TAP = 1024  # values of the pooled latent that the fast classifier reads
IR_VERSION = 10  # ONNX Runtime for Python 3.10 refuses 12 and above


class FrozenPart(nn.Module):
    """The frozen blocks, which return the latent and the taps.

    Taps are intermediate features: pooled outputs of some blocks, concatenated.
    """

    def __init__(self, backbone: Backbone, cut: str, *, static_feature: bool = False) -> None:
        """Keep the taps of `backbone` that lie before the cut, and add the pooled latent.

        Args:
            backbone: the network to split.
            cut: name of the first adaptive block.
            static_feature: also tap the feature of the network as exported. A second, frozen copy
                of the adaptive part computes it.
        """
        super().__init__()
        self.blocks, rest = split(backbone, cut)
        self.rest = copy.deepcopy(rest) if static_feature else None
        self.taps_width = 0  # set when it is exported
        self.input_shape = backbone.preprocessing.input_shape
        names = [name for name, _ in named_blocks(self.blocks)]
        shapes = list(block_costs(backbone)[1].values())[1:]  # output of each block
        self.tap_shapes: list[list[int]] = []
        self.taps = {name: grid for name, grid in backbone.taps if name in names}
        for name, shape in zip(names, shapes, strict=False):
            if name == names[-1]:
                self.taps.setdefault(name, latent_grid(shape))
            if name in self.taps and len(shape) == 2:
                raise BackboneError(
                    f"{backbone.name} has a tap of block {name!r}, which returns shape {shape}; "
                    "tap blocks that return (C, H, W) or (D,)"
                )
            if name in self.taps:
                grid = self.taps[name]
                self.tap_shapes.append([shape[0], *([grid] * 2 if len(shape) == 3 else [])])
            if name in self.taps and len(shape) == 3:
                grid, (_, rows, columns) = self.taps[name], shape
                # one product for both axes takes a fifth of the time of two
                cells = np.kron(pool_matrix(rows, grid), pool_matrix(columns, grid))
                self.register_buffer(f"cells_{name}", torch.from_numpy(cells.T.copy()))
        if static_feature:
            self.tap_shapes.append([shapes[-1][0]])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map images (B, 3, H, W) to latents (B, C, H', W') and taps (B, T)."""
        taps = []
        for name, block in named_blocks(self.blocks):
            x = block(x)
            if name in self.taps:
                taps.append(torch.flatten(self._pooled(name, x), 1))
        if self.rest is not None:
            taps.append(self.rest(x))
        return x, torch.cat(taps, 1)

    def model(self, *, half: bool) -> bytes:
        """Return the serialised part, in float16 if `half`."""
        example = torch.zeros(BATCH, *self.input_shape)
        with torch.no_grad():
            self.taps_width = self(example[:1])[1].shape[1]
        module = HalfPart(self) if half else self
        return module_to_onnx(module, example, "image", ["latent", "taps"])

    def _pooled(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 2:
            return x
        return torch.as_tensor(torch.flatten(x, 2) @ getattr(self, f"cells_{name}"))  # (B, C, g^2)


def latent_grid(shape: tuple[int, ...]) -> int:
    """Return the finest pooling grid that keeps a latent within `_MAX_LATENT_TAP`."""
    if len(shape) == 1:
        return 1
    fitting = [
        grid for grid in (4, 2) if shape[0] * grid**2 <= _MAX_LATENT_TAP and grid <= shape[1]
    ]
    return fitting[0] if fitting else 1


def module_to_onnx(
    module: nn.Module, example: torch.Tensor, input_name: str, output_names: list[str]
) -> bytes:
    """Export a module with a dynamic batch axis.

    Args:
        module: the module, in eval mode.
        example: (n, ...) float32 input. With n = 1 the exporter may fix the batch axis to 1.
        input_name: name of the graph's input.
        output_names: names of the graph's outputs.

    Returns:
        The serialised model. It is the same for the same weights, code and library versions.

    Raises:
        BundleError: the exporter fails, or writes another opset.
    """
    try:
        model = export_module(module, example, input_name, output_names, optimise=True)
    except Exception as error:
        raise BundleError(f"torch cannot export this network to ONNX: {cause(error)}") from error
    model.ir_version = IR_VERSION
    _strip(model)
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if opsets.get("") != OPSET:
        raise BundleError(
            f"the exporter wrote opset {opsets.get('')}; {OPSET} is needed; update torch"
        )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def weight_slots(
    model: bytes,
    weights: Mapping[str, np.ndarray],
    layers: Mapping[str, str],
) -> dict[str, tuple[int, list[int]]]:
    """Locate each weight in a serialised model.

    Args:
        model: the serialised model.
        weights: float32 arrays by state_dict name.
        layers: type of the layer that owns each weight, for the message.

    Returns:
        Byte offset and shape of each weight, by name.

    Raises:
        BundleError: the exporter renamed, folded or merged a weight, so the model cannot be a
            template.
    """
    graph = onnx.load_from_string(model).graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    slots = {}
    for name, array in weights.items():
        tensor = initializers.get(name)
        raw = b"" if tensor is None else tensor.raw_data
        kept = tensor is not None and np.array_equal(numpy_helper.to_array(tensor), array)
        offset = model.find(raw) if raw and kept else -1
        if offset < 0 or model.find(raw, offset + 1) >= 0:
            layer = layers[name]
            raise BundleError(
                f"{name.split('.')[0]!r} cannot lie above the cut: the ONNX exporter rewrites "
                f"weight {name!r} of {layer}, so that it could not be exchanged on the robot; cut "
                "after that block (--list-cuts prints the cuts)"
            )
        slots[name] = (offset, list(array.shape))
    return slots


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and names of the exporting machine."""
    model.doc_string = ""
    model.producer_name, model.producer_version = "plr-edge", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string, graph.name = "", "main"
    del graph.metadata_props[:]
    for item in [*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]:
        item.doc_string = ""
        with contextlib.suppress(AttributeError):  # depends on the onnx release
            del item.metadata_props[:]
    del graph.value_info[:]
