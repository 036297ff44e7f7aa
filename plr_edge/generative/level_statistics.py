"""LevelStatistics: class statistics of the features of one level, from sums over real samples.

They answer in closed form and they generate features, and neither needs a stored sample. They never
go stale as long as the blocks below their level are kept still.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from plr_edge.generative.gaussian_generator import GaussianGenerator

_SHRINKAGE = 0.01  # weight of a scaled identity matrix in the covariance
_CLUSTER_ROUNDS = 8
_TO_CLASS = 0.5  # how far the discriminant of a mode is moved towards its class


class LevelStatistics(GaussianGenerator):
    """Gaussian statistics of a level, with several modes for each class if wanted.

    A mode is a cluster of the samples of a class, and counts as a class of its own in the sums of
    `GaussianGenerator`. All modes share one covariance.

    Attributes:
        modes: M, modes of each class.
        rectified: whether features of this level are at least 0, as behind a ReLU.
        n_beside: first columns that are not of this level, and are not sampled.
    """

    def __init__(
        self, width: int, modes: int = 1, *, rectified: bool = True, n_beside: int = 0
    ) -> None:
        """Start without classes.

        Args:
            width: D, the width of the level and of what is kept beside it.
            modes: modes of each class.
            rectified: features of this level are at least 0.
            n_beside: first columns that are not of this level, and are not sampled.
        """
        super().__init__(width)
        self.modes, self.rectified, self.n_beside = modes, rectified, n_beside

    @property
    def n_classes(self) -> int:
        """Number of classes that it can sample."""
        return len(self.counts) // self.modes

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Add classes until there are `n_classes`; return no parameters, as none is trained."""
        missing = (n_classes - self.n_classes) * self.modes
        self.sums = functional.pad(self.sums, (0, 0, 0, missing))
        self.squares = functional.pad(self.squares, (0, 0, 0, missing))
        self.counts = functional.pad(self.counts, (0, missing))
        return []

    def learn_many(self, latents: torch.Tensor, labels: torch.Tensor) -> None:
        """Add all samples of an experience.

        Args:
            latents: (n, D) float32 features of the level.
            labels: (n,) int64 class indices.
        """
        parts = self.modes * labels
        if self.modes > 1:
            parts = parts + clusters(latents, labels, self.modes)
        super().learn_many(latents, parts)

    def learn_macs(self, n: int) -> int:
        """Return the multiply-adds of learning n samples: the scatter, and the clusters."""
        width = self.sums.shape[1]
        rounds = _CLUSTER_ROUNDS + 1 if self.modes > 1 else 0
        return n * width * (width + rounds * self.modes)

    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw one feature per requested class, as a list of one level.

        Args:
            classes: (n,) class indices.
            level: must be 0; deeper levels are not generated.
            draw: source of randomness.

        Returns:
            One tensor, (n, D - n_beside) float32.
        """
        parts = classes
        if self.modes > 1:
            weights = self.counts.view(-1, self.modes)[classes]
            chosen = torch.multinomial(weights, 1, generator=draw)[:, 0]
            parts = self.modes * classes + chosen
        (features,) = super().sample_levels(parts, level, draw)
        features = features[:, self.n_beside :]
        return [features.clamp(min=0) if self.rectified else features]

    def discriminants(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weights (K M, D) and biases (K M,) of linear discriminants of the modes.

        With one mode this is linear discriminant analysis with equal priors (Hayes and Kanan, CVPR
        workshops 2020). With several it is mixture discriminant analysis (Hastie and Tibshirani,
        Journal of the Royal Statistical Society B 58, 1996), whose modes are moved halfway to the
        mean of their class.
        """
        width, n_modes = self.sums.shape[1], self.modes
        of_modes = self.counts.view(-1, n_modes)  # (K, M)
        counts = of_modes.sum(1).clamp(min=1)
        means = self.sums.view(-1, n_modes, width).sum(1) / counts[:, None]  # (K, D)
        within = (self.scatter - means.T @ (means * counts[:, None])) / counts.sum()
        spread = _SHRINKAGE * float(within.diagonal().mean()) + 1e-12
        mixed = (1 - _SHRINKAGE) * within + spread * torch.eye(width)
        centres = self.sums / self.counts.clamp(min=1)[:, None]  # (K M, D)
        centres = _TO_CLASS * means.repeat_interleave(n_modes, 0) + (1 - _TO_CLASS) * centres
        weights = torch.linalg.solve(mixed, centres.T).T.contiguous()
        shares = (of_modes / counts[:, None]).flatten()
        return weights, -0.5 * (centres * weights).sum(1) + torch.log(shares + 1e-9)

    def scores_many(
        self, features: torch.Tensor, discriminants: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Return scores (n, K) of features (n, D): log sums over the modes of each class."""
        weights, biases = discriminants
        of_modes = (features @ weights.T + biases).view(len(features), -1, self.modes)
        return torch.logsumexp(of_modes, 2)

    def discriminant_macs(self) -> int:
        """Return the multiply-adds of `discriminants`: the covariance, and solving with it."""
        width = self.sums.shape[1]
        return width**3 // 3 + (self.n_classes + len(self.counts)) * width**2


def clusters(x: torch.Tensor, labels: torch.Tensor, n_clusters: int) -> torch.Tensor:
    """Divide the samples of each class by k-means; return the number of each one's cluster (n,).

    The first centres are samples spread evenly over the class in the order given.
    """
    found = torch.zeros_like(labels)
    for label in sorted(set(labels.tolist())):
        rows = torch.nonzero(labels == label)[:, 0]
        own = x[rows]
        at = torch.linspace(0, len(own) - 1, min(n_clusters, len(own))).long()
        centres = own[at].clone()
        for _ in range(_CLUSTER_ROUNDS):
            nearest = torch.cdist(own, centres).argmin(1)
            for i in range(len(centres)):
                if (nearest == i).any():
                    centres[i] = own[nearest == i].mean(0)
        found[rows] = torch.cdist(own, centres).argmin(1)
    return found
