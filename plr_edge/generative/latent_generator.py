"""LatentGenerator: a VAE that generates features of any level and decodes no further than needed.

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

from plr_edge.generative.gaussian_generator import correlated_noise, noise_macs
from plr_edge.generative.prior_modes import LOG_2PI, PriorModes

_MAX_LOG_VAR = 10.0  # bound on the log-variance of a code; beyond it a step can diverge
_TRACKING = 0.05  # weight of the newest batch in the running covariances


class LatentGenerator(nn.Module):
    """A VAE with one prior mode per class and one decoder stage per level.

    The stage of level L runs first and that of level 1 last, so a sample for level i costs only
    the stages L..i. A level is a vector, or a map that is pooled to `pool` x `pool` and enlarged
    again.

    Shapes: n samples, K classes, z code width, D width of a level.
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
        """Start without classes.

        Args:
            shapes: (D,) or (C, H, W) of each level, level 1 first, the classifier's input last.
            z_width: z, the length of a code.
            feedback: encode the deepest feature of the classifier, whose blocks then serve as the
                encoder's trunk (replay through feedback). Otherwise the encoder has its own trunk.
            gated_share: share of the hidden units that a class switches off, by a fixed random
                mask.
            conditional_prior: one prior mode per class. Otherwise one standard normal for all.
            fitted_modes: the modes follow the moments of their class's codes. Otherwise they are
                learned by gradient as in BI-R, which takes thousands of steps.
            residual: add noise to each sample, with the covariance that real samples have around
                their reconstruction. Without it samples crowd around the centre of their class,
                and real samples of new classes push them away.
            pool: side to which maps are pooled.
            seed: random seed of the masks.
        """
        super().__init__()
        self.shapes, self.z_width, self.pool = tuple(shapes), z_width, pool
        self.conditional_prior, self.gated_share, self.seed = conditional_prior, gated_share, seed
        self.widths = [_width(shape, pool) for shape in shapes]
        pairs = list(zip(self.widths, self.widths[1:], strict=False))
        trunk: list[nn.Module] = []
        for wide, narrow in [] if feedback else pairs:
            trunk += [nn.Linear(wide, narrow), nn.ReLU()]
        self.trunk = None if feedback else nn.Sequential(*trunk)
        self.to_mean = nn.Linear(self.widths[-1], z_width)
        self.to_log_var = nn.Linear(self.widths[-1], z_width)
        self.stages = nn.ModuleList(  # level 1 first, though it runs last
            [nn.Linear(narrow, wide) for wide, narrow in pairs]
            + [nn.Linear(z_width, self.widths[-1])]
        )
        self.modes = PriorModes(z_width, fitted=fitted_modes)
        self.covariances = [torch.zeros(w, w) for w in self.widths] if residual else []
        self.noise: list[torch.Tensor] = []  # (_N_NOISE, D) per level, computed by `freeze`
        self.n_tracked = 0
        self.masks: list[torch.Tensor] = [torch.zeros(0, width) for width in self.widths]

    @property
    def n_classes(self) -> int:
        """Number of classes that it can sample."""
        return self.modes.n_classes

    @property
    def n_bytes(self) -> int:
        """Bytes of the parameters."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def grow(self, n_classes: int) -> list[nn.Parameter]:
        """Add prior modes and masks until there are `n_classes`; return the new parameters."""
        missing = n_classes - self.n_classes
        if missing <= 0:
            return []
        draw = torch.Generator().manual_seed(self.seed * 100_003 + self.n_classes)
        new = self.modes.grow(missing, draw)
        for i, width in enumerate(self.widths):
            mask = (torch.rand(missing, width, generator=draw) >= self.gated_share).float()
            self.masks[i] = torch.cat([self.masks[i], mask])
        return new

    def encode(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean and the log-variance of the codes, (n, z) each.

        Args:
            feature: (n, D) float32 of level 1, or of the deepest level with feedback.
        """
        hidden = feature if self.trunk is None else self.trunk(feature)
        return self.to_mean(hidden), self.to_log_var(hidden).clamp(-_MAX_LOG_VAR, _MAX_LOG_VAR)

    def decode(self, z: torch.Tensor, context: torch.Tensor, level: int = 0) -> list[torch.Tensor]:
        """Run the stages from the deepest level to `level`, and no further.

        Args:
            z: (n, z) codes.
            context: (n, K) share of each class in each sample.
            level: index of the lowest level needed; 0 is the latent.

        Returns:
            (n, D) features of the levels from `level` to the deepest, in this order.
        """
        features = []
        for i in reversed(range(level, len(self.stages))):
            z = self.stages[i](z)
            if i > 0:  # the latent is signed; deeper levels are outputs of a ReLU
                if self.gated_share:
                    z = z * (context @ self.masks[i][: context.shape[1]])
                z = functional.relu(z)
            features.append(z)
        return features[::-1]

    @torch.no_grad()
    def sample(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw one feature of a level per requested class.

        Args:
            classes: (n,) class indices.
            level: index of the level; 0 is the latent.
            draw: source of randomness.

        Returns:
            (n, *shape of the level) float32.
        """
        return self.unpooled(self.sample_levels(classes, level, draw)[0], level)

    @torch.no_grad()
    def sample_levels(
        self, classes: torch.Tensor, level: int = 0, draw: torch.Generator | None = None
    ) -> list[torch.Tensor]:
        """Draw like `sample`, but return all levels from `level` up, as vectors (n, D).

        The levels of one sample are decoded from the same code.
        """
        noise = torch.randn(len(classes), self.z_width, generator=draw)
        z = noise
        if self.conditional_prior:
            means, log_vars = self.modes.stacked()
            z = means[classes] + torch.exp(0.5 * log_vars[classes]) * noise
        features = self.decode(z, functional.one_hot(classes, self.n_classes).float(), level)
        for i, noise in enumerate(self.noise[level:], level):
            drawn = torch.randint(len(noise), (len(classes),), generator=draw)
            noisy = features[i - level] + noise[drawn]
            features[i - level] = functional.relu(noisy) if i else noisy
        return features

    @torch.no_grad()
    def freeze(self, draw: torch.Generator | None = None) -> int:
        """Draw the noise that samples carry; call it before sampling from a copy.

        Args:
            draw: source of randomness.

        Returns:
            The multiply-adds that it took.
        """
        if not self.n_tracked:
            return 0
        self.noise = [correlated_noise(covariance, draw) for covariance in self.covariances]
        return sum(noise_macs(width) for width in self.widths)

    @torch.no_grad()
    def track(self, targets: Sequence[torch.Tensor], context: torch.Tensor) -> None:
        """Update the covariance of real features around their reconstruction.

        Args:
            targets: (n, D) real features of all levels.
            context: (n, K) share of each class in each sample.
        """
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
        """Return the batch mean of reconstruction error plus weighted KL divergence.

        The reconstruction error is half the squared error, averaged over units and summed over
        levels, as in the authors' code of BI-R. The KL divergence is a one-sample estimate of
        log q(z|x) - log p(z).

        Args:
            encoded: the result of `encode`.
            targets: (n, D) features of the deepest `len(targets)` levels, lowest level first.
            context: (n, K) share of each class; weights of the prior's modes.
            kl_weight: weight of the KL divergence; BI-R uses 1 / (3 x 32 x 32).
        """
        mean, log_var = encoded
        if self.modes.fitted:
            self.modes.fit(mean.detach(), log_var.detach(), context)
        noise = torch.randn_like(mean)
        z = mean + torch.exp(0.5 * log_var) * noise
        decoded = self.decode(z, context, len(self.stages) - len(targets))
        error = torch.stack(
            [0.5 * ((a - b) ** 2).mean(1) for a, b in zip(targets, decoded, strict=True)]
        ).sum(0)
        log_q = -0.5 * (noise**2 + log_var + LOG_2PI).sum(1)
        kl = log_q - self._log_prior(z, context)
        return (error + kl_weight * kl).mean()

    def pooled(self, feature: torch.Tensor) -> torch.Tensor:
        """Turn features (n, *shape of a level) into vectors (n, D)."""
        if feature.ndim == 4:
            feature = functional.adaptive_avg_pool2d(feature, self.pool)
        return feature.flatten(1)

    def unpooled(self, vectors: torch.Tensor, level: int) -> torch.Tensor:
        """Turn vectors (n, D) of a level into features (n, *shape of the level)."""
        shape = self.shapes[level]
        if len(shape) != 3:
            return vectors.view(-1, *shape)
        maps = vectors.view(-1, shape[0], self.pool, self.pool)
        return functional.interpolate(maps, size=shape[1:], mode="nearest")

    def decode_macs(self, level: int) -> int:
        """Return the multiply-adds of decoding one sample down to a level."""
        return sum(_macs(stage) for stage in list(self.stages)[level:])

    @property
    def encode_macs(self) -> int:
        """Multiply-adds of encoding one sample, without a shared trunk."""
        own = [] if self.trunk is None else [m for m in self.trunk if isinstance(m, nn.Linear)]
        return sum(_macs(layer) for layer in [*own, self.to_mean, self.to_log_var])

    def _log_prior(self, z: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return log p(z), (n,), for codes (n, z) and their context (n, K)."""
        if self.conditional_prior:
            return self.modes.log_prob(z, context)
        return -0.5 * (z**2 + LOG_2PI).sum(1)


def _width(shape: tuple[int, ...], pool: int) -> int:
    return shape[0] * pool**2 if len(shape) == 3 else math.prod(shape)


def _macs(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Linear)
    return layer.in_features * layer.out_features
