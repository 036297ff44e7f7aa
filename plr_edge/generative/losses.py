"""Losses of training on generated samples, and what keeps new classes from winning by frequency."""

from __future__ import annotations

import torch
from torch.nn import functional


def rehearsal_loss(
    logits: torch.Tensor, targets: torch.Tensor, temperature: float | None
) -> torch.Tensor:
    """Return the batch sum of distillation loss (Hinton et al., 2015) or cross entropy.

    Args:
        logits: (n, K).
        targets: (n, k) logits of the previous classifier or of the requested classes, k <= K.
        temperature: temperature of the distillation. None: cross entropy, largest target.
    """
    if temperature is None:
        return functional.cross_entropy(logits, targets.argmax(1), reduction="sum")
    soft = functional.softmax(targets / temperature, dim=1)  # new classes have probability 0
    log = functional.log_softmax(logits / temperature, dim=1)[:, : soft.shape[1]]
    return -(temperature**2) * (soft * log).sum()


def class_prior(n_old: int, n_new: int, new_share: float) -> torch.Tensor:
    """Return the log frequency (K,) of each class in a step, old classes first.

    It is added to the logits in training only, so that a classifier of balanced classes results:
    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.

    Args:
        n_old: classes that are rehearsed.
        n_new: classes of the experience.
        new_share: share of the new samples in the loss. 0 for no prior.
    """
    if not new_share or not n_old or not n_new:
        return torch.zeros(n_old + n_new)
    shares = [(1 - new_share) / n_old] * n_old + [new_share / n_new] * n_new
    return torch.tensor(shares).log()
