"""GaussianGenerator: latents of level 1 from sums over samples, without training.

Also holds the correlated noise that both generators add to their samples.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_SHRINKAGE = 10.0  # weight of the shared variance against a class's own, in samples
_RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 0.1)  # of the mean variance; more where samples are few
_N_NOISE = 4096  # noise vectors that samples pick from


class GaussianGenerator:
    """Sample latents of level 1 from class means, class deviations and a shared covariance.

    It knows what streaming LDA knows, plus the deviation of each value in each class. All of it
    consists of sums over samples, so one class does not disturb another.

    Attributes:
        sums: (K, D) sum of the latents of each class.
        squares: (K, D) sum of their squares.
        counts: (K,) number of samples.
        scatter: (D, D) sum of x x^T over all samples.
        means: (K, D), computed by `refresh`.
        deviations: (K, D) standard deviations, computed by `refresh`.
        common: (D,) variance within classes, shared by all; computed by `freeze`.
        noise: (_N_NOISE, D) correlated noise of unit deviation; computed by `freeze`.
    """

    def __init__(self, width: int) -> None:
        """Start without classes.

        Args:
            width: D, the length of a latent.
        """
        self.sums, self.squares = torch.zeros(0, width), torch.zeros(0, width)
        self.counts = torch.zeros(0)
        self.scatter = torch.zeros(width, width)
        self.means, self.deviations = torch.zeros(0, width), torch.zeros(0, width)
        self.noise = torch.zeros(0, width)
        self.common = torch.ones(width)

    @property
    def n_classes(self) -> int:
        """Number of classes that it can sample."""
        return len(self.counts)

    @property
    def n_bytes(self) -> int:
        """Bytes of its sums."""
        kept = (self.sums, self.squares, self.counts, self.scatter)
        return sum(array.numel() * array.element_size() for array in kept)

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Add classes until there are `n_classes`; return no parameters, as none is trained."""
        missing = n_classes - self.n_classes
        self.sums = functional.pad(self.sums, (0, 0, 0, missing))
        self.squares = functional.pad(self.squares, (0, 0, 0, missing))
        self.counts = functional.pad(self.counts, (0, missing))
        return []

    def learn_many(self, latents: torch.Tensor, labels: torch.Tensor) -> None:
        """Add latents (n, D) float32 to the sums of their classes (n,) int64."""
        self.sums.index_add_(0, labels, latents)
        self.squares.index_add_(0, labels, latents**2)
        self.counts.index_add_(0, labels, torch.ones(len(labels)))
        self.scatter += latents.T @ latents

    def freeze(self, draw: torch.Generator | None = None) -> int:
        """Compute what sampling needs; call it before the first sample.

        Args:
            draw: source of randomness.

        Returns:
            The multiply-adds that it took.
        """
        means = self.sums / self.counts.clamp(min=1)[:, None]  # (K, D)
        between = means.T @ (means * self.counts[:, None])  # (D, D)
        within = (self.scatter - between) / self.counts.sum().clamp(min=1)  # (D, D)
        self.common = within.diagonal().clamp(min=1e-9)
        self.noise = correlated_noise(within, draw) / self.common.sqrt()
        self.refresh()
        return noise_macs(len(within)) + self.n_classes * len(within) ** 2

    def refresh(self) -> None:
        """Recompute means and deviations, but keep the noise of the last `freeze`.

        Needed before classes can be sampled that were learned after `freeze`.
        """
        counts = self.counts.clamp(min=1)[:, None]
        self.means = self.sums / counts
        own = (self.squares / counts - self.means**2).clamp(min=0)
        variances = (counts * own + _SHRINKAGE * self.common) / (counts + _SHRINKAGE)
        self.deviations = variances.sqrt()

    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw one latent per requested class, as a list of one level.

        Args:
            classes: (n,) class indices.
            level: must be 0; deeper levels are not generated.
            draw: source of randomness.

        Returns:
            One tensor, (n, D) float32.
        """
        assert level == 0
        drawn = torch.randint(len(self.noise), (len(classes),), generator=draw)
        return [self.means[classes] + self.deviations[classes] * self.noise[drawn]]

    def decode_macs(self, level: int) -> int:
        """Return the multiply-adds of drawing one sample."""
        return self.sums.shape[1]


def correlated_noise(covariance: torch.Tensor, draw: torch.Generator | None) -> torch.Tensor:
    """Draw noise vectors of a covariance, which samples then pick from at random.

    Picking costs nothing, whereas fresh noise would cost D^2 multiply-adds per sample.

    Args:
        covariance: (D, D) float32.
        draw: source of randomness.

    Returns:
        (_N_NOISE, D) float32.
    """
    scale = float(covariance.diagonal().mean()) + 1e-12
    for ridge in _RIDGES:
        root, failed = torch.linalg.cholesky_ex(
            covariance + ridge * scale * torch.eye(len(covariance))
        )
        if not failed:
            break
    else:
        root = covariance.diagonal().clamp(min=0).sqrt().diag()
    return torch.randn(_N_NOISE, len(root), generator=draw) @ root.T


def noise_macs(width: int) -> int:
    """Return the multiply-adds of `correlated_noise`: the root and the product."""
    return width**3 // 3 + _N_NOISE * width**2
