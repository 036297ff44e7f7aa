"""GaussianGenerator: latents of the first level from sums over samples; nothing is trained."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from plr_edge.generative.correlated_noise import correlated_noise, noise_macs

_SHRINKAGE = 10.0  # samples that the common deviation counts for beside those of a class


class GaussianGenerator:
    """Latents of level 1 from class means, class deviations and one covariance; no training.

    What streaming LDA knows, and the deviation of each value in each class, used to sample: sums
    over samples, so no class disturbs another.
    """

    def __init__(self, width: int) -> None:
        """Make a generator of latents (width,) that knows no class yet."""
        self.sums, self.squares = torch.zeros(0, width), torch.zeros(0, width)
        self.counts = torch.zeros(0)
        self.scatter = torch.zeros(width, width)
        self.means, self.deviations = torch.zeros(0, width), torch.zeros(0, width)
        self.noise = torch.zeros(0, width)  # made by `freeze`, of unit deviation
        self.common = torch.ones(width)  # variances within classes, of all of them

    @property
    def n_classes(self) -> int:
        """Classes that it can be asked for."""
        return len(self.counts)

    @property
    def n_bytes(self) -> int:
        """Bytes of its sums."""
        kept = (self.sums, self.squares, self.counts, self.scatter)
        return sum(array.numel() * array.element_size() for array in kept)

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Make room for classes; nothing here is trained."""
        missing = n_classes - self.n_classes
        self.sums = functional.pad(self.sums, (0, 0, 0, missing))
        self.squares = functional.pad(self.squares, (0, 0, 0, missing))
        self.counts = functional.pad(self.counts, (0, missing))
        return []

    def learn_many(self, latents: torch.Tensor, labels: torch.Tensor) -> None:
        """Add latents (n, D) to the sums of their classes (n,)."""
        self.sums.index_add_(0, labels, latents)
        self.squares.index_add_(0, labels, latents**2)
        self.counts.index_add_(0, labels, torch.ones(len(labels)))
        self.scatter += latents.T @ latents

    def freeze(self, draw: torch.Generator | None = None) -> int:
        """Make what sampling needs; call it before sampling.

        Returns:
            Multiply-adds of doing so.
        """
        means = self.sums / self.counts.clamp(min=1)[:, None]
        between = means.T @ (means * self.counts[:, None])
        within = (self.scatter - between) / self.counts.sum().clamp(min=1)
        self.common = within.diagonal().clamp(min=1e-9)
        self.noise = correlated_noise(within, draw) / self.common.sqrt()
        self.refresh()
        return noise_macs(len(within)) + self.n_classes * len(within) ** 2

    def refresh(self) -> None:
        """Take in what means and deviations have become since `freeze`; the noise stays as it is.

        What has to be done before classes are asked for that came after it.
        """
        counts = self.counts.clamp(min=1)[:, None]
        self.means = self.sums / counts
        own = (self.squares / counts - self.means**2).clamp(min=0)
        variances = (counts * own + _SHRINKAGE * self.common) / (counts + _SHRINKAGE)
        self.deviations = variances.sqrt()

    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw latents (n, D) of the classes asked for; there is no deeper level."""
        assert level == 0
        drawn = torch.randint(len(self.noise), (len(classes),), generator=draw)
        return [self.means[classes] + self.deviations[classes] * self.noise[drawn]]

    def decode_macs(self, level: int) -> int:
        """Multiply-adds of drawing one sample."""
        return self.sums.shape[1]
