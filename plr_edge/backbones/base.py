"""Backbone: a network as ordered, named blocks, with its preprocessing. Needs torch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from plr_edge.bundle.preprocessing import Preprocessing


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
    """

    name: str
    blocks: nn.Sequential
    preprocessing: Preprocessing
    classifier: nn.Module | None = None
    taps: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        self.blocks.eval()
        if self.classifier is not None:
            self.classifier.eval()

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, in order."""
        return tuple(name for name, _ in self.blocks.named_children())


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
    order, the parity check of an export refuses the network.
    """
    folded = copy.deepcopy(module).eval()
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (name, first), (bn_name, second) in pairwise(children):
            first = getattr(parent, name)
            if type(first) is nn.Conv2d and isinstance(second, nn.BatchNorm2d):
                if first.out_channels == second.num_features:
                    setattr(parent, name, fuse_conv_bn_eval(first, second))
                    setattr(parent, bn_name, nn.Identity())
            elif type(first) is nn.Linear and isinstance(second, nn.BatchNorm1d):
                setattr(parent, name, fuse_linear_bn_eval(first, second))
                setattr(parent, bn_name, nn.Identity())
    return folded
