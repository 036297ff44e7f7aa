"""What the axes of a latent mean, and how places are pooled. NumPy only."""

from __future__ import annotations

import math

import numpy as np

from plr_edge.errors import ConfigError

AXES = {"CHW": 0, "HWC": 2, "ND": 1, "CT": 0, "D": None}  # kinds of latents: the axis of channels
_BY_LENGTH = {3: "CHW", 2: "ND", 1: "D"}


def checked_axes(shape: tuple[int, ...], axes: str = "") -> str:
    """Return what the axes of a latent mean, and check it against the shape.

    Args:
        shape: shape of a latent.
        axes: one of `AXES`; by default CHW, ND or D, by the number of axes.

    Raises:
        ConfigError: the shape has another number of axes.
    """
    found = axes or _BY_LENGTH.get(len(shape), "")
    if found not in AXES or len(found) != len(shape) or min(shape) < 1:
        raise ConfigError(
            f"latent shape is {shape} with the axes {axes or 'unknown'!r}; it must be a map (C, H, "
            "W) or (H, W, C), tokens (N, D), a sequence (C, T) or a vector (D,)"
        )
    return found


def largest_pool(shape: tuple[int, ...], axes: str = "") -> int | None:
    """Return the largest side that latents can be pooled to. None if they cannot be pooled.

    Args:
        shape: shape of a latent.
        axes: what its axes mean; see `LinearCodec`.
    """
    places = {"CHW": shape[1:], "HWC": shape[:2], "CT": shape[1:]}
    return min(places.get(checked_axes(shape, axes), ()), default=None)


def pool_matrix(size: int, cells: int) -> np.ndarray:
    """Return the (cells, size) float32 matrix that averages `size` values into `cells`.

    A cell covers the values that overlap it, as adaptive average pooling does.
    """
    matrix = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        start, stop = cell * size // cells, math.ceil((cell + 1) * size / cells)
        matrix[cell, start:stop] = 1.0 / (stop - start)
    return matrix
