"""Noise of a given covariance, drawn once and picked from: samples of both generators carry it."""

from __future__ import annotations

import torch

_N_NOISE = 4096  # vectors that samples pick from


def correlated_noise(covariance: torch.Tensor, draw: torch.Generator | None) -> torch.Tensor:
    """Draw (_N_NOISE, D) vectors of a covariance (D, D), to be picked from at random.

    Picking costs nothing; drawing anew costs D^2 multiply-adds a sample.
    """
    ridge = 1e-5 * float(covariance.diagonal().mean()) + 1e-12
    root, failed = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(len(covariance)))
    if failed:
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()
    return torch.randn(_N_NOISE, len(root), generator=draw) @ root.T


def noise_macs(width: int) -> int:
    """Multiply-adds of `correlated_noise`: the root and the products."""
    return width**3 // 3 + _N_NOISE * width**2
