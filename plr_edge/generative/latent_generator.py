"""LatentGenerator: generated latents of any level, decoded no deeper than asked. Knows no schedule.

Method: the class-conditional VAE of Brain-Inspired Replay (van de Ven et al., Nature Communications
11:4069, 2020), whose decoder stages are identified with the levels of the adaptive part, as in
Progressive Latent Replay (Pawlak et al., arXiv 2207.01562, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from plr_edge.generative.correlated_noise import correlated_noise, noise_macs

_LOG_2PI = math.log(2 * math.pi)
_WIDEST = 10.0  # log-variance of a code, either way; beyond it a step can diverge
_MASS_DECAY = 0.95  # a step, of the samples that a fitted mode remembers
_TRACKING = 0.05  # of the newest batch, in the running covariances
_LEAST_MASS = 1.5  # samples of a class in a batch below which its mode stays where it is


class LatentGenerator(nn.Module):
    """A VAE with one prior mode a class and one decoder stage a level.

    The stage of level L runs first and that of level 1 last, so a sample for level i costs stages
    L..i only. Levels are vectors, or maps pooled to `pool` x `pool` and enlarged again.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        *,
        z_width: int = 100,
        feedback: bool = False,
        gated_share: float = 0.0,
        conditional_prior: bool = True,
        fitted_modes: bool = False,
        residual: bool = False,
        pool: int = 1,
        seed: int = 0,
    ) -> None:
        """Make a generator that knows no class yet.

        Args:
            shapes: (D,) or (C, H, W) of each level, level 1 first, the classifier's input last.
            z_width: of the code.
            feedback: encode from the deepest feature of the classifier, whose blocks are then the
                encoder's trunk (replay through feedback); else with a trunk of its own.
            gated_share: of the hidden units that a class switches off, by a fixed random mask.
            conditional_prior: one mode a class; else one standard normal for all.
            fitted_modes: the modes follow the moments of the codes of their class; else they are
                learned by gradient, as in BI-R, which takes thousands of steps.
            residual: add what the decoder leaves unexplained to each sample, as noise of the
                covariance that real samples had around their reconstruction; without it samples
                crowd around the middle of their class and real new ones push them aside.
            pool: side to which maps are pooled.
            seed: of the masks.
        """
        super().__init__()
        self.shapes, self.z_width, self.pool = tuple(shapes), z_width, pool
        self.conditional_prior, self.fitted_modes = conditional_prior, fitted_modes
        self.residual, self.gated_share, self.seed = residual, gated_share, seed
        self.widths = [_width(shape, pool) for shape in shapes]
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        trunk: list[nn.Module] = []
        for wide, narrow in [] if feedback else pairs:
            trunk += [nn.Linear(wide, narrow), nn.ReLU()]
        self.trunk = None if feedback else nn.Sequential(*trunk)
        self.to_mean = nn.Linear(self.widths[-1], z_width)
        self.to_log_var = nn.Linear(self.widths[-1], z_width)
        self.stages = nn.ModuleList(  # of level 1 first, though it runs last
            [nn.Linear(narrow, wide) for wide, narrow in pairs]
            + [nn.Linear(z_width, self.widths[-1])]
        )
        # modes of the prior, a (k, z) tensor for each call of `grow`
        self.means, self.log_vars = nn.ParameterList(), nn.ParameterList()
        self.covariances = [torch.zeros(w, w) for w in self.widths] if residual else []
        self.noise: list[torch.Tensor] = []  # (_N_NOISE, D) of each level, made by `freeze`
        self.n_tracked = 0
        self.masses = torch.zeros(0)  # (K,) recent samples of each class, for fitted modes
        self.masks: list[torch.Tensor] = [torch.zeros(0, width) for width in self.widths]

    @property
    def n_classes(self) -> int:
        """Classes that it can be asked for."""
        return sum(len(means) for means in self.means)

    @property
    def n_bytes(self) -> int:
        """Bytes of its parameters."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Add prior modes and masks until there are `n_classes`; returns the new parameters."""
        missing = n_classes - self.n_classes
        if missing <= 0:
            return []
        draw = torch.Generator().manual_seed(self.seed * 100_003 + self.n_classes)
        new = []
        for parameters in (self.means, self.log_vars):
            start = torch.randn(missing, self.z_width, generator=draw)
            new.append(nn.Parameter(start, requires_grad=not self.fitted_modes))
            parameters.append(new[-1])
        for i, width in enumerate(self.widths):
            mask = (torch.rand(missing, width, generator=draw) >= self.gated_share).float()
            self.masks[i] = torch.cat([self.masks[i], mask])
        return new

    def encode(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance of the code, (n, z) each.

        Args:
            feature: (n, D) of level 1, or of the deepest level with feedback.
        """
        hidden = feature if self.trunk is None else self.trunk(feature)
        return self.to_mean(hidden), self.to_log_var(hidden).clamp(-_WIDEST, _WIDEST)

    def decode(self, z: torch.Tensor, context: torch.Tensor, level: int = 0) -> list[torch.Tensor]:
        """Run the stages from the deepest level to `level`, and no further.

        Args:
            z: (n, z) codes.
            context: (n, K) share of each class in each sample.
            level: index of the earliest level wanted, 0 being the latent.

        Returns:
            (n, D) features of levels `level` to the deepest, in this order.
        """
        features = []
        for i in reversed(range(level, len(self.stages))):
            z = self.stages[i](z)
            if i > 0:  # the latent is signed; deeper levels come out of a ReLU
                if self.gated_share:
                    z = z * (context @ self.masks[i][: context.shape[1]])
                z = functional.relu(z)
            features.append(z)
        return features[::-1]

    @torch.no_grad()
    def sample(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw one feature of a level for each class asked for.

        Args:
            classes: (n,) class indices.
            level: index of the level, 0 being the latent.
            draw: source of randomness.

        Returns:
            (n, *shape of the level) float32.
        """
        return self.unpooled(self.sample_levels(classes, level, draw)[0], level)

    @torch.no_grad()
    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw like `sample`; returns vectors of all levels from `level` up, of one code each."""
        noise = torch.randn(len(classes), self.z_width, generator=draw)
        z = noise
        if self.conditional_prior:
            means, log_vars = self._modes()
            z = means[classes] + torch.exp(0.5 * log_vars[classes]) * noise
        features = self.decode(z, functional.one_hot(classes, self.n_classes).float(), level)
        for i, noise in enumerate(self.noise[level:], level):
            drawn = torch.randint(len(noise), (len(classes),), generator=draw)
            noisy = features[i - level] + noise[drawn]
            features[i - level] = functional.relu(noisy) if i else noisy
        return features

    @torch.no_grad()
    def freeze(self, draw: torch.Generator | None = None) -> int:
        """Make the noise that samples carry; call it before sampling from a copy.

        Returns:
            Multiply-adds of doing so.
        """
        if not self.n_tracked:
            return 0
        self.noise = [correlated_noise(covariance, draw) for covariance in self.covariances]
        return sum(noise_macs(width) for width in self.widths)

    @torch.no_grad()
    def track(self, targets: Sequence[torch.Tensor], context: torch.Tensor) -> None:
        """Learn the covariance of real features (n, D) of all levels around the decoder's."""
        decoded = self.decode(self.encode(targets[-1 if self.trunk is None else 0])[0], context)
        self.n_tracked += 1
        rate = max(1 / self.n_tracked, _TRACKING)
        for covariance, real, mean in zip(self.covariances, targets, decoded, strict=True):
            left = real - mean
            covariance.lerp_(left.T @ left / len(left), rate)

    def loss(
        self,
        encoded: tuple[torch.Tensor, torch.Tensor],
        targets: Sequence[torch.Tensor],
        context: torch.Tensor,
        kl_weight: float,
    ) -> torch.Tensor:
        """Return reconstruction of some deepest levels plus the weighted KL term, batch mean.

        Sum over levels of the mean over units of half the squared error, as in the authors' code
        (facts of BI-R, section 4.3), plus a one-sample estimate of log q(z|x) - log p(z).

        Args:
            encoded: what `encode` returned.
            targets: (n, D) features of the deepest `len(targets)` levels, the earliest first.
            context: (n, K) share of each class; the prior is that mixture of modes.
            kl_weight: BI-R divides by 3 x 32 x 32.
        """
        mean, log_var = encoded
        if self.fitted_modes:
            self._fit_modes(mean.detach(), log_var.detach(), context)
        noise = torch.randn_like(mean)
        z = mean + torch.exp(0.5 * log_var) * noise
        decoded = self.decode(z, context, len(self.stages) - len(targets))
        error = torch.stack(
            [0.5 * ((a - b) ** 2).mean(1) for a, b in zip(targets, decoded, strict=True)]
        ).sum(0)
        log_q = -0.5 * (noise**2 + log_var + _LOG_2PI).sum(1)
        kl = log_q - self._log_prior(z, context)
        return (error + kl_weight * kl).mean()

    def pooled(self, feature: torch.Tensor) -> torch.Tensor:
        """Turn features (n, *shape) of a level into vectors."""
        if feature.ndim == 4:
            feature = functional.adaptive_avg_pool2d(feature, self.pool)
        return feature.flatten(1)

    def unpooled(self, vectors: torch.Tensor, level: int) -> torch.Tensor:
        """Turn vectors of a level into features (n, *shape)."""
        shape = self.shapes[level]
        if len(shape) == 1:
            return vectors
        maps = vectors.view(-1, shape[0], self.pool, self.pool)
        return functional.interpolate(maps, size=shape[1:], mode="nearest")

    def decode_macs(self, level: int) -> int:
        """Multiply-adds of decoding one sample to a level."""
        return sum(_macs(stage) for stage in list(self.stages)[level:])

    @property
    def encode_macs(self) -> int:
        """Multiply-adds of encoding one sample, without a shared trunk."""
        own = [] if self.trunk is None else [m for m in self.trunk if isinstance(m, nn.Linear)]
        return sum(_macs(layer) for layer in [*own, self.to_mean, self.to_log_var])

    @torch.no_grad()
    def _fit_modes(self, mean: torch.Tensor, log_var: torch.Tensor, context: torch.Tensor) -> None:
        """Move each mode towards the moments of its class's codes; the first batch sets them."""
        mass = context.sum(0)  # (K,)
        share = (context / mass.clamp(min=1e-9)).T  # (K, n)
        centre = share @ mean
        spread = (share @ (mean**2 + log_var.exp()) - centre**2).clamp(min=0)
        self.masses = functional.pad(self.masses, (0, self.n_classes - len(self.masses)))
        met = mass > _LEAST_MASS
        self.masses = torch.where(met, _MASS_DECAY * self.masses + mass, self.masses)
        rates = torch.where(met, mass / self.masses.clamp(min=1e-9), torch.zeros(()))[:, None]
        for modes, target in ((self.means, centre), (self.log_vars, torch.log(spread + 1e-6))):
            sizes = [len(mode) for mode in modes]
            parts = zip(modes, torch.split(target, sizes), torch.split(rates, sizes), strict=True)
            for mode, own, rate in parts:
                mode.lerp_(own, rate)

    def _modes(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat(list(self.means)), torch.cat(list(self.log_vars))

    def _log_prior(self, z: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        if not self.conditional_prior:
            return -0.5 * (z**2 + _LOG_2PI).sum(1)
        means, log_vars = self._modes()
        k = context.shape[1]
        precisions = torch.exp(-log_vars[:k])
        scaled = means[:k] * precisions
        squares = z**2 @ precisions.T - 2 * z @ scaled.T + (means[:k] * scaled).sum(1)  # (n, K)
        each = -0.5 * (squares + (log_vars[:k] + _LOG_2PI).sum(1))
        return torch.logsumexp(each + torch.log(context + 1e-30), dim=1)


def _width(shape: tuple[int, ...], pool: int) -> int:
    return shape[0] * (pool**2 if len(shape) == 3 else 1)


def _macs(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Linear)
    return layer.in_features * layer.out_features
