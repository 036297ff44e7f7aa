"""The five-layer convolutional front of Brain-Inspired Replay.

Source: van de Ven et al., "Brain-inspired replay", Nature Communications 11:4069 (2020), methods.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn

from plr_edge.backbones.base import Backbone
from plr_edge.bundle.preprocessing import Preprocessing

_CHANNELS = (3, 16, 32, 64, 128, 256)
_MEAN = (0.5071 * 255, 0.4865 * 255, 0.4409 * 255)  # of CIFAR-100
_STD = (0.2673 * 255, 0.2564 * 255, 0.2761 * 255)


class ConvLayer(nn.Module):
    """Convolution, BatchNorm and ReLU; the last layer is linear and flattens its output."""

    def __init__(self, c_in: int, c_out: int, stride: int, last: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1)
        self.bn = nn.Identity() if last else nn.BatchNorm2d(c_out)
        self.act = nn.Identity() if last else nn.ReLU()
        self.flatten = nn.Flatten() if last else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride), or to (B, D) in the last layer."""
        return self.flatten(self.act(self.bn(self.conv(x))))


def bir_c3(size: int = 32) -> Backbone:
    """Return BI-R's C3-5x16 with blocks `conv1` .. `conv5`; 1,024 features at 32 pixels."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, len(_CHANNELS)):
        last = i == len(_CHANNELS) - 1
        blocks[f"conv{i}"] = ConvLayer(_CHANNELS[i - 1], _CHANNELS[i], 1 if i == 1 else 2, last)
    return Backbone(
        name="bir_c3",
        blocks=nn.Sequential(blocks),
        preprocessing=Preprocessing(size=size, mean=_MEAN, std=_STD),
    )


def rename(name: str) -> str:
    """Map the name of a tensor in a weights file to the name in the backbone."""
    return re.sub(r"^convLayer(\d)\.", r"conv\1.", name)
