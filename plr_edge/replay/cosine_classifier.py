"""CosineRows: the cosine classifier that rehearsal trains, with its gradient in closed form.

What takes time with many classes is not the two products but what automatic differentiation puts
around them: a dozen passes over arrays as large as all rows. Here there are four.
"""

from __future__ import annotations

import torch
from torch.nn import functional

COSINE_SCALE = 16.0  # logits are cosines times this
_PRIOR_DECAY = 0.95  # a step, of the label frequencies in the loss
_LEAST_PRIOR = 1e-4
_LEAST_NORM = 1e-12


class CosineClassifier:
    """Rows w_k whose logits are s cos(w_k, x), trained by SGD with momentum."""

    def __init__(self, width: int, lr: float, momentum: float) -> None:
        """Start with no class; `width` is D."""
        self.lr, self.momentum = lr, momentum
        self.weight = torch.zeros(0, width)  # (K, D)
        self.prior = torch.zeros(0)  # (K,) recent frequency of each label in training steps
        self._velocity = torch.zeros(0, width)
        self._imprinted = torch.zeros(0)  # (K,) length of the sum of directions in each row
        self._pending: tuple[torch.Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.weight)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (n, K) of features (n, D)."""
        cosines = functional.linear(functional.normalize(features), self.weight)
        return cosines.mul_(COSINE_SCALE / self._norms())

    def loss(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy with adjusted logits; `step` follows its gradient.

        With u_b = x_b / |x_b|, c_bk = cos(w_k, x_b), p = softmax(s c + log prior) and
        g_bk = s (p_bk - y_bk) / B, the gradient of row k is
        (sum_b g_bk u_b - (sum_b g_bk c_bk) w_k / |w_k|) / |w_k|,
        and that of feature b the same with the parts of w and x exchanged.

        Args:
            features: (B, D), without gradient.
            labels: (B,) class indices.
        """
        lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_(min=_LEAST_NORM)
        directions, norms = features / lengths, self._norms()
        cosines = functional.linear(directions, self.weight).div_(norms)  # (B, K)
        log_p = torch.log_softmax(COSINE_SCALE * cosines + self._log_prior(labels), dim=1)
        at = torch.arange(len(labels))
        loss = -log_p[at, labels].mean()
        g = log_p.exp_()
        g[at, labels] -= 1.0
        g.mul_(COSINE_SCALE / len(labels))
        self._pending = g, cosines, directions, lengths, norms
        return loss

    def feature_gradient(self) -> torch.Tensor:
        """Return the last loss's gradient by its features, (B, D)."""
        g, cosines, directions, lengths, norms = self._pending
        across = (g * cosines).sum(dim=1, keepdim=True)  # (B, 1)
        return ((g / norms) @ self.weight - across * directions) / lengths

    def step(self) -> None:
        """Follow the last loss's gradient: v = momentum v + gradient, w = w - lr v."""
        g, cosines, directions, _, norms = self._pending
        along = (g * cosines).sum(dim=0) / norms.square()  # (K,)
        self._velocity.addmm_((g / norms).T, directions, beta=self.momentum)
        self._velocity.addcmul_(self.weight, along[:, None], value=-1.0)
        self.weight.add_(self._velocity, alpha=-self.lr)
        self._pending = ()

    def grow(self, n_classes: int) -> None:
        """Append rows until there are `n_classes`."""
        missing, width = n_classes - len(self), self.weight.shape[1]
        if missing > 0:
            self.weight = torch.cat([self.weight, torch.full((missing, width), 1e-3)])
            self._velocity = torch.cat([self._velocity, torch.zeros(missing, width)])
            self._imprinted = functional.pad(self._imprinted, (0, missing))

    def imprint(self, label: int, features: torch.Tensor) -> None:
        """Set a row to the mean direction of features (n, D), and of those it was imprinted with.

        What training did to the row since keeps its effect.
        Source: Qi et al., "Low-Shot Learning with Imprinted Weights", CVPR 2018.
        """
        row, before = self.weight[label], self._imprinted[label]
        total = before * functional.normalize(row, dim=0) + functional.normalize(features).sum(0)
        length = torch.linalg.vector_norm(row) if before else 1.0
        self.weight[label] = length * functional.normalize(total, dim=0)
        self._imprinted[label] = torch.linalg.vector_norm(total)

    def restore(self, weight: torch.Tensor, prior: torch.Tensor) -> None:
        """Go on from other rows (K, D), at rest, and label frequencies."""
        self.weight, self.prior = weight, prior
        self._velocity = torch.zeros_like(weight)
        self._imprinted = torch.zeros(len(weight))
        self._pending = ()

    def _norms(self) -> torch.Tensor:
        return torch.linalg.vector_norm(self.weight, dim=1).clamp_(min=_LEAST_NORM)

    def _log_prior(self, labels: torch.Tensor) -> torch.Tensor:
        """Return what to add to the logits so that frequent labels are not favoured, (K,).

        Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10;
        with running frequencies, as the newest class is in every step and others seldom.
        """
        prior = functional.pad(self.prior, (0, len(self) - len(self.prior)))
        frequency = torch.bincount(labels, minlength=len(self)) / len(labels)
        self.prior = _PRIOR_DECAY * prior + (1 - _PRIOR_DECAY) * frequency
        return torch.log(self.prior + _LEAST_PRIOR)
