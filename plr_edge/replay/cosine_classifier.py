"""CosineClassifier: the classifier that rehearsal trains, with its gradient in closed form.

With many classes the time goes not into the two matrix products, but into the dozen passes that
automatic differentiation makes over arrays of the size of all weights. The closed form makes four.

Shapes: B samples in a batch, D feature width, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

COSINE_SCALE = 16.0  # logits are cosines times this
_PRIOR_DECAY = 0.95  # per step, of the running label frequencies
_MIN_PRIOR = 1e-4
_MIN_NORM = 1e-12


class CosineLoss(NamedTuple):
    """The loss of a batch, and what its gradients are computed from.

    Attributes:
        value: () mean cross entropy.
        logit_gradient: (B, K), by the cosines.
        cosines: (B, K), between features and class weights.
        directions: (B, D), features at unit length.
        lengths: (B, 1), of the features.
        norms: (K,), of the class weights.
    """

    value: torch.Tensor
    logit_gradient: torch.Tensor
    cosines: torch.Tensor
    directions: torch.Tensor
    lengths: torch.Tensor
    norms: torch.Tensor


class CosineClassifier:
    """A linear classifier with logits s cos(w_k, x), trained by SGD with momentum.

    Attributes:
        weight: (K, D) float32, one row w_k per class.
        prior: (K,) float32, running frequency of each label in training steps.
        lr: learning rate.
        momentum: SGD momentum.
    """

    def __init__(self, width: int, lr: float, momentum: float) -> None:
        """Start without classes.

        Args:
            width: D, the length of a feature.
            lr: learning rate.
            momentum: SGD momentum, 0..1.
        """
        self.lr, self.momentum = lr, momentum
        self.weight = torch.zeros(0, width)  # (K, D)
        self.prior = torch.zeros(0)  # (K,)
        self._velocity = torch.zeros(0, width)  # (K, D)
        self._imprinted = torch.zeros(0)  # (K,) length of the sum of directions imprinted

    @property
    def n_classes(self) -> int:
        """Number of classes that have a weight."""
        return len(self.weight)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (n, K) of features (n, D)."""
        cosines = functional.linear(functional.normalize(features), self.weight)
        return cosines.mul_(COSINE_SCALE / self._norms())

    def loss(self, features: torch.Tensor, labels: torch.Tensor) -> CosineLoss:
        """Return the mean cross entropy with adjusted logits.

        With u_b = x_b / |x_b|, c_bk = cos(w_k, x_b), p = softmax(s c + log prior) and
        g_bk = s (p_bk - y_bk) / B, the gradient of w_k is
        (sum_b g_bk u_b - (sum_b g_bk c_bk) w_k / |w_k|) / |w_k|,
        and that of x_b is the same with the roles of w and x exchanged.

        Args:
            features: (B, D) float32, detached.
            labels: (B,) int64 class indices.
        """
        lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_(min=_MIN_NORM)
        directions, norms = features / lengths, self._norms()  # (B, D), (K,)
        cosines = functional.linear(directions, self.weight).div_(norms)  # (B, K)
        log_p = torch.log_softmax(COSINE_SCALE * cosines + self._log_prior(labels), dim=1)  # (B, K)
        at = torch.arange(len(labels))
        value = -log_p[at, labels].mean()
        g = log_p.exp_()  # (B, K)
        g[at, labels] -= 1.0
        g.mul_(COSINE_SCALE / len(labels))
        return CosineLoss(value, g, cosines, directions, lengths, norms)

    def feature_gradient(self, loss: CosineLoss) -> torch.Tensor:
        """Return the gradient of a loss by its features, (B, D). Call it before `step`."""
        g = loss.logit_gradient
        across = (g * loss.cosines).sum(dim=1, keepdim=True)  # (B, 1)
        return ((g / loss.norms) @ self.weight - across * loss.directions) / loss.lengths

    def step(self, loss: CosineLoss) -> None:
        """Update the weight by the gradient of a loss: v = momentum v + gradient, w = w - lr v."""
        g, norms = loss.logit_gradient, loss.norms
        along = (g * loss.cosines).sum(dim=0) / norms.square()  # (K,)
        self._velocity.addmm_((g / norms).T, loss.directions, beta=self.momentum)  # (K, D)
        self._velocity.addcmul_(self.weight, along[:, None], value=-1.0)
        self.weight.add_(self._velocity, alpha=-self.lr)

    def grow(self, n_classes: int) -> None:
        """Append class weights until there are `n_classes`."""
        missing, width = n_classes - self.n_classes, self.weight.shape[1]
        if missing > 0:
            self.weight = torch.cat([self.weight, torch.full((missing, width), 1e-3)])
            self._velocity = torch.cat([self._velocity, torch.zeros(missing, width)])
            self._imprinted = functional.pad(self._imprinted, (0, missing))

    def imprint(self, label: int, features: torch.Tensor) -> None:
        """Move a class weight to the mean direction of all features it was imprinted with.

        The first call sets the direction; later calls average more features (n, D) into it. What
        training did to the weight in between keeps its effect.

        Source: Qi et al., "Low-Shot Learning with Imprinted Weights", CVPR 2018.
        """
        row, before = self.weight[label], self._imprinted[label]
        total = before * functional.normalize(row, dim=0) + functional.normalize(features).sum(0)
        length = torch.linalg.vector_norm(row) if before else 1.0
        self.weight[label] = length * functional.normalize(total, dim=0)
        self._imprinted[label] = torch.linalg.vector_norm(total)

    def restore(self, weight: torch.Tensor, prior: torch.Tensor) -> None:
        """Continue from another weight (K, D) and prior (K,), without momentum."""
        self.weight, self.prior = weight, prior
        self._velocity = torch.zeros_like(weight)
        self._imprinted = torch.zeros(len(weight))

    def _norms(self) -> torch.Tensor:
        return torch.linalg.vector_norm(self.weight, dim=1).clamp_(min=_MIN_NORM)  # (K,)

    def _log_prior(self, labels: torch.Tensor) -> torch.Tensor:
        """Update the prior by labels (B,), and return its logarithm (K,).

        Added to the logits, it keeps frequent labels from being favoured. The frequencies are
        running ones, because the newest class is in every step and the others are rare.

        Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10.
        """
        prior = functional.pad(self.prior, (0, self.n_classes - len(self.prior)))
        frequency = torch.bincount(labels, minlength=self.n_classes) / len(labels)
        self.prior = _PRIOR_DECAY * prior + (1 - _PRIOR_DECAY) * frequency
        return torch.log(self.prior + _MIN_PRIOR)
