"""Backbone: a network as ordered, named blocks, with its preprocessing. Needs torch."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BackboneError, one_line
from plr_edge.graph.module import GraphBlocks

CLASSIFIER = "classifier"  # the cut that leaves only the classifier to train


@dataclass
class Backbone:
    """A network that can be cut before any of its blocks except the first.

    Attributes:
        name: name that `--backbone` takes.
        blocks: named children in order; map (B, 3, H, W) float32 to the feature (B, D).
        preprocessing: how an image becomes the input.
        classifier: the pretraining classifier, (B, D) -> (B, n); used only to verify an export.
        taps: block names and grid sizes. The fast classifier reads the outputs of these blocks,
            average-pooled to grid x grid, if they lie before the cut.
        reference: the network as its author gave it, if that is not `blocks`. An export is compared
            with it.
        source: options with which it came in, for the manifest.
        divided: the graph that the blocks are parts of, of a network that came in as one; see
            `plr_edge.export.divided`.

    Raises:
        BackboneError: a block has a reserved name, or a tap names no block.
    """

    name: str
    blocks: nn.Sequential
    preprocessing: Preprocessing
    classifier: nn.Module | None = None
    taps: tuple[tuple[str, int], ...] = ()
    reference: nn.Module | Callable[[torch.Tensor], torch.Tensor] | None = None
    divided: Any = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for module in (self.blocks, self.classifier, self.reference):
            if isinstance(module, nn.Module):
                module.eval()
        if CLASSIFIER in self.block_names:
            raise BackboneError(
                f"a block of {self.name} is called {CLASSIFIER!r}, which is the name of the cut "
                "after the last block; rename the block"
            )
        for name, grid in self.taps:
            if name not in self.block_names or grid < 1:
                raise BackboneError(
                    f"{self.name} has a tap ({name!r}, {grid}); give the name of one of its blocks "
                    f"({', '.join(self.block_names)}) and a grid of 1 or more"
                )
        if len(dict(self.taps)) < len(self.taps):
            raise BackboneError(f"{self.name} has two taps of one block; give one grid for each")

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, in order."""
        return tuple(name for name, _ in named_blocks(self.blocks))


def named_blocks(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the children of a module in order, with a module that is used twice listed twice.

    `named_children` leaves out the second use.
    """
    return [(name, child) for name, child in module._modules.items() if child is not None]


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which differs from torch's at stride 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride)).

        An odd row or column of padding goes to the end.
        """
        top, bottom = self._padding(int(x.shape[2]), 0)
        left, right = self._padding(int(x.shape[3]), 1)
        if top == bottom == left == right:
            return functional.conv2d(
                x, self.weight, self.bias, self.stride, top, self.dilation, self.groups
            )
        return super().forward(functional.pad(x, (left, right, top, bottom)))

    def _padding(self, n: int, axis: int) -> tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        return total // 2, total - total // 2


class SpatialMean(nn.Module):
    """Average over height and width."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C)."""
        return x.mean((2, 3))


def fold_batch_norm(module: nn.Sequential) -> nn.Sequential:
    """Return a copy with every BatchNorm folded into the convolution or linear layer before it.

    "Before" refers to the order in which a module registered its children. If they run in another
    order, the parity check of an export refuses the network. A block that is used twice becomes two
    blocks, so that each can be cut off and trained.

    Raises:
        BackboneError: a block cannot be copied.
    """
    if isinstance(module, GraphBlocks):  # folded on the graph
        return copy.deepcopy(module)
    try:
        copies = OrderedDict((n, copy.deepcopy(block)) for n, block in named_blocks(module))
    except Exception as error:  # the user's code may raise anything
        reason = one_line(error, 150)
        raise BackboneError(
            f"a block of the network cannot be copied ({reason}); keep only parameters, buffers "
            "and plain values in its modules"
        ) from error
    folded = nn.Sequential(copies).eval()
    for parent in list(folded.modules()):
        children = named_blocks(parent)
        shared = Counter(id(child) for _, child in children)
        for (name, _), (bn_name, second) in pairwise(children):
            first = getattr(parent, name)
            if shared[id(first)] + shared[id(second)] > 2 or _has_hooks(first, second):
                continue
            if _folds_into(first, second):
                fuse = fuse_conv_bn_eval if type(first) is nn.Conv2d else fuse_linear_bn_eval
                fused = fuse(first, second)  # type: ignore[arg-type]
                setattr(parent, name, fused.requires_grad_(True))  # torch would freeze a new bias
                setattr(parent, bn_name, nn.Identity())
    return folded


def _folds_into(first: nn.Module, second: nn.Module) -> bool:
    """Return whether `second` is a plain BatchNorm of the outputs of the plain layer `first`.

    Subclasses may do more than their base class, such as the BatchNorm with an activation of timm.
    """
    if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d:
        return second.running_mean is not None and first.out_channels == second.num_features
    if type(first) is nn.Linear and type(second) is nn.BatchNorm1d:
        return second.running_mean is not None and first.out_features == second.num_features
    return False


def _has_hooks(*modules: nn.Module) -> bool:
    """Return whether one of the modules has hooks, which may compute its weights or its output."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)
