"""Window: the part of a latent map that blocks are trained on. NumPy only.

A map of half the side costs a quarter of the multiply-adds. An average over neighbouring places
looks like nothing that the blocks have seen, but a window of the map does: the receptive fields
of its places reach far beyond it. What was trained on windows answers with windows.

Source of the trap that this avoids: Touvron et al., "Fixing the train-test resolution
discrepancy", NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plr_edge.replay.schedule import Level


@dataclass(frozen=True)
class Window:
    """The central window of latent maps.

    Attributes:
        side: rows and columns of the window.
        levels: levels of the adaptive part if its input is a window.
    """

    side: int
    levels: tuple[Level, ...]

    def cut(self, latents: np.ndarray) -> np.ndarray:
        """Return the window (n, C, side, side) of latents (n, C, H, W)."""
        return central(latents, self.side)


def central(latents: np.ndarray, side: int) -> np.ndarray:
    """Return the central `side` x `side` places of latents (n, C, H, W), contiguous.

    Example:
        >>> central(np.arange(16.0).reshape(1, 1, 4, 4), 2).ravel().tolist()
        [5.0, 6.0, 9.0, 10.0]
    """
    top, left = ((n - side) // 2 for n in latents.shape[2:])
    return np.ascontiguousarray(latents[:, :, top : top + side, left : left + side])
