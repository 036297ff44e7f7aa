"""MlpClassifier: fully connected blocks and a last layer that classes are added to. Torch only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class MlpClassifier(nn.Module):
    """Fully connected blocks with ReLU, and a last one to which classes are added."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.rows, self.biases = nn.ParameterList(), nn.ParameterList()
        self.width = widths[-1]

    @property
    def n_classes(self) -> int:
        """Classes that have a row."""
        return sum(len(bias) for bias in self.biases)

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Add rows until there are `n_classes`; returns the new parameters."""
        missing = n_classes - self.n_classes
        if missing <= 0:
            return []
        layer = nn.Linear(self.width, missing)
        self.rows.append(layer.weight)
        self.biases.append(layer.bias)
        return [self.rows[-1], self.biases[-1]]

    def features(self, x: torch.Tensor, start: int = 0) -> list[torch.Tensor]:
        """Return the inputs (n, D) of levels `start` .. L, given that of `start`."""
        features = [x]
        for block in list(self.blocks)[start:]:
            features.append(block(features[-1]))
        return features

    def logits(self, deepest: torch.Tensor) -> torch.Tensor:
        """Return (n, K) logits for the deepest feature."""
        return functional.linear(deepest, torch.cat(list(self.rows)), torch.cat(list(self.biases)))

    def forward(self, x: torch.Tensor, level: int = 0) -> torch.Tensor:
        """Return (n, K) logits for features of a level."""
        return self.logits(self.features(x, level)[-1])
