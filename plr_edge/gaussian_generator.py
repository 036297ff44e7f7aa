"""GaussianGenerator: latents of the first level from sums over samples; nothing is trained."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class GaussianGenerator:
    """Latents of level 1 from class means and one covariance that all classes share; no training.

    What streaming LDA knows, used to sample: sums over samples, so no class disturbs another.
    """

    def __init__(self, width: int, rank: int = 256) -> None:
        """Make a generator of latents (width,) that knows no class yet.

        Args:
            width: D.
            rank: directions of the covariance that samples follow; what is left of it is added to
                each value by itself.
        """
        self.rank = min(rank, width)
        self.rest = torch.zeros(width)  # (D,) deviation beyond these directions
        self.sums, self.counts = torch.zeros(0, width), torch.zeros(0)
        self.scatter = torch.zeros(width, width)
        self.root = torch.zeros(0, width)  # (rank, D) of the covariance, made by `freeze`

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
        roots = (vectors * values.clamp(min=0).sqrt()).T  # (D, D), eigenvalues ascending
        self.root = roots[-self.rank :]
        self.rest = (roots[: -self.rank] ** 2).sum(0).sqrt()

    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw latents (n, D) of the classes asked for; there is no deeper level."""
        assert level == 0
        noise = torch.randn(len(classes), len(self.root), generator=draw) @ self.root
        noise += torch.randn(noise.shape, generator=draw) * self.rest
        return [self._means()[classes] + noise]

    def decode_macs(self, level: int) -> int:
        """Multiply-adds of drawing one sample."""
        return self.sums.shape[1] * (self.rank + 1)

    def _means(self) -> torch.Tensor:
        return self.sums / self.counts.clamp(min=1)[:, None]
