"""The CIFAR ResNets with 20 and 56 layers, and ResNet-18.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; section 4.2 for the
CIFAR ResNets (shortcuts without parameters, option A), table 1 for ResNet-18.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from plr_edge.backbones.base import Backbone, SpatialMean
from plr_edge.bundle.preprocessing import Preprocessing

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Stem(nn.Module):
    """The first convolution, with max-pooling for large images."""

    def __init__(self, channels: int, kernel: int, stride: int, max_pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, 1) if max_pool else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, C, ...)."""
        return self.pool(self.act(self.bn(self.conv(x))))


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int, projects: bool) -> None:
        """Make a block.

        Args:
            c_in: channels of the input.
            c_out: channels of the output.
            stride: stride of the first convolution.
            projects: the shortcut is a projection if needed. Otherwise it has no parameters and
                pads the channels with zeros.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.act = nn.ReLU()
        self.stride, self.padding = stride, (c_out - c_in) // 2
        self.project: nn.Module | None = None
        if projects and (stride > 1 or c_in != c_out):
            conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.project = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + self._shortcut(x))

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        if self.project is not None:
            return self.project(x)
        if self.stride == 1 and self.padding == 0:
            return x
        skipped = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(skipped, (0, 0, 0, 0, self.padding, self.padding))


def _stages(
    c_in: int, channels: tuple[int, ...], depth: int, projects: bool
) -> OrderedDict[str, nn.Module]:
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, c_out in enumerate(channels):
        for i in range(depth):
            stride = 2 if stage > 0 and i == 0 else 1
            blocks[f"layer{stage + 1}_{i}"] = BasicBlock(c_in, c_out, stride, projects)
            c_in = c_out
    blocks["pool"] = SpatialMean()
    return blocks


def resnet_cifar(layers: int, size: int = 32) -> Backbone:
    """Return a CIFAR ResNet with blocks `stem`, `layer1_0` .. `layer3_N`, `pool`; 64 features."""
    depth = (layers - 2) // 6
    blocks: OrderedDict[str, nn.Module] = OrderedDict(stem=Stem(16, 3, 1, max_pool=False))
    blocks.update(_stages(16, (16, 32, 64), depth, projects=False))
    return Backbone(
        name=f"resnet{layers}_cifar",
        blocks=nn.Sequential(blocks),
        preprocessing=Preprocessing(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        classifier=nn.Linear(64, 10),
        taps=((f"layer2_{depth - 1}", 2),),
    )


def resnet18(size: int = 224) -> Backbone:
    """Return ResNet-18 with blocks `stem`, `layer1_0` .. `layer4_1`, `pool`; 512 features.

    Only the structure; weights are not embedded.
    """
    blocks: OrderedDict[str, nn.Module] = OrderedDict(stem=Stem(64, 7, 2, max_pool=True))
    blocks.update(_stages(64, (64, 128, 256, 512), 2, projects=True))
    return Backbone(
        name="resnet18",
        blocks=nn.Sequential(blocks),
        preprocessing=Preprocessing(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        classifier=nn.Linear(512, 1000),
        taps=(("layer2_1", 2),),
    )


def rename(name: str) -> str:
    """Map the name of a tensor in a weights file to the name in the backbone."""
    name = name.removeprefix("module.")
    name = re.sub(r"^(conv|bn)1\.", r"stem.\1.", name)
    name = re.sub(r"^(?:linear|fc)\.", "classifier.", name)
    name = re.sub(r"^layer(\d)\.(\d+)\.downsample\.0\.", r"layer\1_\2.project.conv.", name)
    name = re.sub(r"^layer(\d)\.(\d+)\.downsample\.1\.", r"layer\1_\2.project.bn.", name)
    return re.sub(r"^layer(\d)\.(\d+)\.", r"layer\1_\2.", name)
