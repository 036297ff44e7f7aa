"""MobileNetV1 and V2 with TensorFlow's padding, for weights with BatchNorm already folded.

Sources: Howard et al., "MobileNets", 2017, table 1; Sandler et al., "MobileNetV2", CVPR 2018,
table 2.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from plr_edge.backbones.base import Backbone, SameConv2d, SpatialMean
from plr_edge.bundle.preprocessing import Preprocessing

_V2_STAGES = (  # expansion, channels, repeats, first stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_V1_STAGES = (  # channels at width 1.0, stride
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
_N_IMAGENET = 1001  # output 0 is "background"


class Stem(nn.Module):
    """The first convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SameConv2d(3, channels, 3, stride=2)
        self.act = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, C, H / 2, W / 2)."""
        return self.act(self.conv(x))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added if the shapes agree."""

    def __init__(self, c_in: int, c_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * c_in
        self.expand = nn.Conv2d(c_in, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = nn.Conv2d(hidden, c_out, 1)
        self.act = nn.ReLU6()
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = x if self.expand is None else self.act(self.expand(x))
        y = self.project(self.act(self.depthwise(y)))
        return x + y if self.adds else y


class SeparableConv(nn.Module):
    """Filter each channel, then mix the channels."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = SameConv2d(c_in, c_in, 3, stride=stride, groups=c_in)
        self.pointwise = nn.Conv2d(c_in, c_out, 1)
        self.act = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        return self.act(self.pointwise(self.act(self.depthwise(x))))


class Head(nn.Module):
    """The last convolution, and the mean over height and width."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1)
        self.act = nn.ReLU6()
        self.pool = SpatialMean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, D)."""
        return self.pool(self.act(self.conv(x)))


def mobilenet_v2(size: int = 128) -> Backbone:
    """Return MobileNetV2 1.0 with blocks `stem`, `block0` .. `block16`, `head`; 1,280 features."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict(stem=Stem(32))
    c_in = 32
    for expansion, channels, repeats, stride in _V2_STAGES:
        for repeat in range(repeats):
            block = InvertedResidual(c_in, channels, expansion, stride if repeat == 0 else 1)
            blocks[f"block{len(blocks) - 1}"] = block
            c_in = channels
    blocks["head"] = Head(c_in, 1280)
    return Backbone(
        name="mobilenet_v2",
        blocks=nn.Sequential(blocks),
        preprocessing=_tensorflow(size),
        classifier=nn.Linear(1280, _N_IMAGENET),
        taps=(("block5", 4), ("block12", 2)),
    )


def mobilenet_v1(width: float, size: int) -> Backbone:
    """Return MobileNetV1 with blocks `stem`, `block0` .. `block12`, `pool`; 1,024 x width features.

    Args:
        width: width multiplier of the channels.
        size: height and width of the input in pixels.
    """
    c_in = int(32 * width)
    blocks: OrderedDict[str, nn.Module] = OrderedDict(stem=Stem(c_in))
    for channels, stride in _V1_STAGES:
        blocks[f"block{len(blocks) - 1}"] = SeparableConv(c_in, int(channels * width), stride)
        c_in = int(channels * width)
    blocks["pool"] = SpatialMean()
    return Backbone(
        name=f"mobilenet_v1_{width}",
        blocks=nn.Sequential(blocks),
        preprocessing=_tensorflow(size),
        classifier=nn.Linear(c_in, _N_IMAGENET),
        taps=(("block4", 4), ("block10", 2)),
    )


def rename(name: str) -> str:
    """Map the name of a tensor in a weights file to the name in the backbone."""
    return re.sub(r"^blocks\.(\d+)\.(\w+)\.conv\.", r"block\1.\2.", name)


def _tensorflow(size: int) -> Preprocessing:
    return Preprocessing(size=size, mean=(127.5,) * 3, std=(127.5,) * 3)
