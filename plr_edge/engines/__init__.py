"""Engines: compiled parts of a bundle that run on NumPy arrays."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Engine(Protocol):
    """A compiled part of a bundle."""

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run one batch.

        Args:
            batch: (B, ...) float32.

        Returns:
            One array (B, ...) float32 per output of the part.

        Raises:
            EngineError: the batch has a wrong shape, or the run fails.
        """
        ...
