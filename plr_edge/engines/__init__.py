"""Engines: compiled parts that run, NumPy at the border."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Engine(Protocol):
    """A compiled part that maps a batch to a batch."""

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run one batch.

        Args:
            batch: (B, ...) float32.

        Returns:
            One (B, ...) float32 array for each output of the part.
        """
        ...
