"""PriorModes: the class-conditional prior of the VAE, one Gaussian mode per class."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

LOG_2PI = math.log(2 * math.pi)
_MASS_DECAY = 0.95  # per step, of the samples that a fitted mode averages over
_MIN_MASS = 1.5  # with fewer samples of a class in a batch, its mode does not move


class PriorModes(nn.Module):
    """A mixture of diagonal Gaussians over codes, one per class.

    Shapes: n samples, K classes, z code width.

    Attributes:
        means: one (k, z) parameter per call of `grow`.
        log_vars: likewise, the log-variances.
        masses: (K,) recent samples of each class, for fitted modes.
    """

    def __init__(self, z_width: int, *, fitted: bool) -> None:
        """Start without classes.

        Args:
            z_width: z, the length of a code.
            fitted: modes follow the moments of their class's codes (`fit`), not gradients.
        """
        super().__init__()
        self.z_width, self.fitted = z_width, fitted
        self.means, self.log_vars = nn.ParameterList(), nn.ParameterList()
        self.masses = torch.zeros(0)

    @property
    def n_classes(self) -> int:
        """Number of modes."""
        return sum(len(means) for means in self.means)

    def grow(self, n_new: int, draw: torch.Generator) -> list[nn.Parameter]:
        """Add random modes; return the new parameters."""
        new = []
        for parameters in (self.means, self.log_vars):
            start = torch.randn(n_new, self.z_width, generator=draw)
            new.append(nn.Parameter(start, requires_grad=not self.fitted))
            parameters.append(new[-1])
        return new

    def stacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and log-variances of all modes, (K, z) each."""
        return torch.cat(list(self.means)), torch.cat(list(self.log_vars))

    @torch.no_grad()
    def fit(self, mean: torch.Tensor, log_var: torch.Tensor, context: torch.Tensor) -> None:
        """Move each mode towards the moments of its class's codes; the first batch sets it.

        Args:
            mean: (n, z) means of the codes.
            log_var: (n, z) log-variances of the codes.
            context: (n, K) share of each class in each sample.
        """
        mass = context.sum(0)  # (K,)
        share = (context / mass.clamp(min=1e-9)).T  # (K, n)
        centre = share @ mean  # (K, z)
        spread = (share @ (mean**2 + log_var.exp()) - centre**2).clamp(min=0)  # (K, z)
        self.masses = functional.pad(self.masses, (0, self.n_classes - len(self.masses)))
        met = mass > _MIN_MASS
        self.masses = torch.where(met, _MASS_DECAY * self.masses + mass, self.masses)
        rates = torch.where(met, mass / self.masses.clamp(min=1e-9), torch.zeros(()))[:, None]
        for modes, target in ((self.means, centre), (self.log_vars, torch.log(spread + 1e-6))):
            sizes = [len(mode) for mode in modes]
            parts = zip(modes, torch.split(target, sizes), torch.split(rates, sizes), strict=True)
            for mode, own, rate in parts:
                mode.lerp_(own, rate)

    def log_prob(self, z: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return log p(z), (n,), of the mixture in which context (n, k <= K) weights the modes."""
        means, log_vars = self.stacked()
        k = context.shape[1]
        precisions = torch.exp(-log_vars[:k])
        scaled = means[:k] * precisions
        squares = z**2 @ precisions.T - 2 * z @ scaled.T + (means[:k] * scaled).sum(1)  # (n, k)
        each = -0.5 * (squares + (log_vars[:k] + LOG_2PI).sum(1))
        return torch.logsumexp(each + torch.log(context + 1e-30), dim=1)
