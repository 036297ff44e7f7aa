"""A network of a few thousand weights, for states that are small enough to keep, and its frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from plr_edge.stream.base import Frame

CLASSES = ("ball", "cup", "key", "pen")
SIZE = 32


def network() -> nn.Sequential:
    """Return three small blocks with the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        )


def frames(n: int, seed: int = 0) -> list[Frame]:
    """Return `n` noisy pictures of four coloured patterns, in turns."""
    patterns = np.random.default_rng(99).integers(0, 200, (len(CLASSES), 4, 4, 3))
    rng, made = np.random.default_rng(seed), []
    for i in range(n):
        pattern = np.kron(patterns[i % len(CLASSES)], np.ones((8, 8, 1)))
        image = (pattern + rng.integers(0, 56, (SIZE, SIZE, 3))).astype(np.uint8)
        made.append(Frame(image, CLASSES[i % len(CLASSES)], i, f"frame {seed} {i}", i))
    return made
