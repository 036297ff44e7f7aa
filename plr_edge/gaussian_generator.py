"""GaussianGenerator: latents of the first level from sums over samples; nothing is trained."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class GaussianGenerator:
    """Latents of level 1 from class means and one covariance that all classes share; no training.

    What streaming LDA knows, used to sample: sums over samples, so no class disturbs another.
    """

    def __init__(self, width: int) -> None:
        """Make a generator of latents (width,) that knows no class yet."""
        self.sums, self.counts = torch.zeros(0, width), torch.zeros(0)
        self.scatter = torch.zeros(width, width)
        self.root = torch.zeros(0, width)  # of the covariance, made by `freeze`

    @property
    def n_classes(self) -> int:
        """Classes that it can be asked for."""
        return len(self.counts)

    @property
    def n_bytes(self) -> int:
        """Bytes of its sums."""
        return 4 * (self.sums.numel() + self.counts.numel() + self.scatter.numel())

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Make room for classes; nothing here is trained."""
        missing = n_classes - self.n_classes
        self.sums = functional.pad(self.sums, (0, 0, 0, missing))
        self.counts = functional.pad(self.counts, (0, missing))
        return []

    def learn_many(self, latents: torch.Tensor, labels: torch.Tensor) -> None:
        """Add latents (n, D) to the sums of their classes (n,)."""
        self.sums.index_add_(0, labels, latents)
        self.counts.index_add_(0, labels, torch.ones(len(labels)))
        self.scatter += latents.T @ latents

    def freeze(self) -> None:
        """Make what sampling needs; call it before sampling from a copy."""
        means = self._means()
        within = self.scatter - means.T @ (means * self.counts[:, None])
        values, vectors = torch.linalg.eigh(within / self.counts.sum().clamp(min=1))
        self.root = (vectors * values.clamp(min=0).sqrt()).T

    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw latents (n, D) of the classes asked for; there is no deeper level."""
        assert level == 0
        noise = torch.randn(len(classes), len(self.root), generator=draw)
        return [self._means()[classes] + noise @ self.root]

    def decode_macs(self, level: int) -> int:
        """Multiply-adds of drawing one sample."""
        return self.sums.shape[1] ** 2

    def _means(self) -> torch.Tensor:
        return self.sums / self.counts.clamp(min=1)[:, None]
