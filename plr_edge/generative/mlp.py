"""MlpClassifier: fully connected blocks, and an output layer that classes can be added to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class MlpClassifier(nn.Module):
    """Fully connected blocks with ReLU, and an output layer that classes can be added to.

    Attributes:
        blocks: block i maps level i (n, widths[i]) to level i + 1.
        weights: rows of the output layer, one (k, D) parameter per call of `grow`.
        biases: biases of the output layer, one (k,) parameter per call of `grow`.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """Start without classes.

        Args:
            widths: width of the latent and of each hidden layer.
        """
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.widths = tuple(widths)

    @property
    def n_classes(self) -> int:
        """Number of classes in the output layer."""
        return sum(len(bias) for bias in self.biases)

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Add classes until there are `n_classes`; return the new parameters."""
        missing = n_classes - self.n_classes
        if missing <= 0:
            return []
        layer = nn.Linear(self.widths[-1], missing)
        self.weights.append(layer.weight)
        self.biases.append(layer.bias)
        return [self.weights[-1], self.biases[-1]]

    def part_from(self, level: int) -> MlpClassifier:
        """Return a copy of the blocks from a level up, with the output layer."""
        part = MlpClassifier(self.widths[level:])
        for block, original in zip(part.blocks, list(self.blocks)[level:], strict=True):
            block.load_state_dict(original.state_dict())
        part.grow(self.n_classes)
        with torch.no_grad():
            part.weights[0].copy_(torch.cat(list(self.weights)))
            part.biases[0].copy_(torch.cat(list(self.biases)))
        return part

    def features(self, x: torch.Tensor, start: int = 0) -> list[torch.Tensor]:
        """Return the inputs (n, D) of all levels from `start` up, given x at level `start`."""
        features = [x]
        for block in list(self.blocks)[start:]:
            features.append(block(features[-1]))
        return features

    def logits(self, deepest: torch.Tensor) -> torch.Tensor:
        """Return logits (n, K) for the deepest feature (n, D)."""
        weight, bias = torch.cat(list(self.weights)), torch.cat(list(self.biases))
        return functional.linear(deepest, weight, bias)

    def forward(self, x: torch.Tensor, level: int = 0) -> torch.Tensor:
        """Return logits (n, K) for features x of a level."""
        return self.logits(self.features(x, level)[-1])

    def block_macs(self, level: int) -> int:
        """Return the multiply-adds of the block at a level for one sample."""
        if level < len(self.blocks):
            return self.widths[level] * self.widths[level + 1]
        return self.widths[-1] * self.n_classes

    def macs_from(self, level: int) -> int:
        """Return the multiply-adds of one sample's forward pass from a level up."""
        return sum(self.block_macs(i) for i in range(level, len(self.blocks) + 1))

    def macs_below(self, level: int) -> int:
        """Return the multiply-adds of one sample's forward pass up to a level."""
        return sum(self.block_macs(i) for i in range(level))
