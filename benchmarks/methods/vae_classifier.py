"""A generative classifier: one small VAE per class. Torch only."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from benchmarks.methods.base import adam_macs

_BATCH = 500
_WEIGHT_DECAY = 1.0
Weights = list[torch.Tensor]


class VaeClassifier:
    """One small VAE per class; the class under which a sample is likeliest wins.

    Method: van de Ven, Li and Tolias, "Class-Incremental Learning with Generative Classifiers"
    (CVPR workshops 2021). A class is never touched again once learned, so nothing is forgotten.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int = 200,
        z_width: int = 10,
        noise: float = 0.5,
        steps: int = 150,
        batch: int = 50,
        lr: float = 2e-3,
        n_draws: int = 5,
        seed: int = 0,
    ) -> None:
        """Make a classifier of latents (width,) that knows no class yet.

        Args:
            width: D.
            hidden: units of encoder and decoder.
            z_width: values of the code.
            noise: variance of the likelihood, as a share of the variance within the first classes.
            steps: steps of Adam for each class.
            batch: samples in a step.
            lr: learning rate of Adam.
            n_draws: importance samples of the code for each likelihood; the paper takes
                10,000.
            seed: random seed.
        """
        self.width, self.hidden, self.z_width, self.noise = width, hidden, z_width, noise
        self.steps, self.batch, self.lr, self.n_draws = steps, batch, lr, n_draws
        self._draw = torch.Generator().manual_seed(seed)
        self._weights: list[Weights] = []  # one entry a call of `learn_many`, classes in front
        self._variance: float | None = None  # of the likelihood, set by the first classes
        self._labels: list[int] = []
        self.macs = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all networks."""
        return sum(w.numel() * w.element_size() for weights in self._weights for w in weights)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Train one VAE for each class of a batch; a class must come whole, and once."""
        classes = sorted(set(labels.tolist()))
        x = [torch.from_numpy(features[labels == label]) for label in classes]
        weights = self._start(len(classes))
        if self._variance is None:
            centred = torch.cat([own - own.mean(0) for own in x])
            self._variance = self.noise * float(centred.var())
        weights[-1].data.copy_(torch.stack([own.mean(0) for own in x])[:, None])
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=_WEIGHT_DECAY)
        for _ in range(self.steps):
            batch = torch.stack(
                [own[torch.randint(len(own), (self.batch,), generator=self._draw)] for own in x]
            )
            optimizer.zero_grad()
            loss = -self._log_likelihoods(weights, batch).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        each = sum(w[0].numel() for w in weights[::2])
        self.macs += 3 * self.steps * self.batch * len(classes) * each
        self.macs += self.steps * adam_macs(weights)
        self._weights.append([w.detach() for w in weights])
        self._labels += classes

    @torch.no_grad()
    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return log likelihoods (n, K) of latents (n, D) under each class, the largest wins."""
        scores = np.full((len(features), max(self._labels) + 1), -np.inf, np.float32)
        for start in range(0, len(features), _BATCH):
            x = torch.from_numpy(features[start : start + _BATCH])
            of_classes = []
            for weights in self._weights:
                shared = x.expand(len(weights[0]), *x.shape)
                draws = [self._log_likelihoods(weights, shared) for _ in range(self.n_draws)]
                of_classes.append(torch.logsumexp(torch.stack(draws), 0))
            scores[start : start + len(x), self._labels] = torch.cat(of_classes).T.numpy()
        return scores

    def _start(self, n: int) -> Weights:
        sizes = [
            (self.width, self.hidden),
            (self.hidden, 2 * self.z_width),
            (self.z_width, self.hidden),
            (self.hidden, self.width),
        ]
        weights = []
        for i, o in sizes:
            weights.append(torch.randn(n, i, o, generator=self._draw) / math.sqrt(i))
            weights.append(torch.zeros(n, 1, o))
        return [w.requires_grad_(True) for w in weights]

    def _log_likelihoods(self, weights: Weights, x: torch.Tensor) -> torch.Tensor:
        """Return one-sample estimates (classes, n) of log p(x) + a constant, x (classes, n, D)."""
        assert self._variance is not None
        into, into_bias, code, code_bias, out_of, out_bias, last, last_bias = weights
        hidden = functional.relu(torch.baddbmm(into_bias, x, into))
        mean, z_log_var = torch.baddbmm(code_bias, hidden, code).chunk(2, dim=2)
        noise = torch.randn(mean.shape, generator=self._draw)
        z = mean + torch.exp(0.5 * z_log_var) * noise
        decoded = torch.baddbmm(
            last_bias, functional.relu(torch.baddbmm(out_bias, z, out_of)), last
        )
        error = -0.5 * ((x - decoded) ** 2).sum(2) / self._variance
        prior = -0.5 * (z**2).sum(2)
        posterior = -0.5 * (noise**2 + z_log_var).sum(2)
        return error + prior - posterior
