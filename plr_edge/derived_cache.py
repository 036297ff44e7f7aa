"""DerivedCache: features of deeper levels by memory slot, with the age of each. NumPy only.

Never the truth: what is too old or not held is computed anew from the latent.
"""

from __future__ import annotations

import numpy as np

from plr_edge.schedule import Level

_FLOAT16_BYTES = 2
_FLOAT16_MAX = 65504.0


class DerivedCache:
    """Hold float16 features for the deepest levels that fit a budget."""

    def __init__(self, levels: tuple[Level, ...], n_slots: int, budget_bytes: int) -> None:
        """Choose levels, deepest first; level 0 is the latent itself and never cached.

        Args:
            levels: of the adaptive part.
            n_slots: of the latent memory.
            budget_bytes: in RAM, reached only when every slot has been visited.
        """
        self.n_slots = n_slots
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._features: dict[int, np.ndarray] = {}
        self._stamps: dict[int, np.ndarray] = {}
        for i in range(len(levels) - 1, 0, -1):
            budget_bytes -= n_slots * levels[i].width * _FLOAT16_BYTES
            if budget_bytes < 0:
                break
            self._shapes[i] = levels[i].shape

    @property
    def n_bytes(self) -> int:
        """Bytes reserved so far."""
        return sum(array.nbytes for array in self._features.values())

    def holds(self, level: int) -> bool:
        """Say whether features of a level are kept at all."""
        return level in self._shapes

    def put(self, level: int, slots: np.ndarray, features: np.ndarray, stamp: int) -> None:
        """Keep features (n, ...) of `slots` as they are after `stamp` updates below the level."""
        if level not in self._shapes:
            return
        if level not in self._features:
            self._features[level] = np.zeros((self.n_slots, *self._shapes[level]), np.float16)
            self._stamps[level] = np.full(self.n_slots, -1, np.int64)
        self._features[level][slots] = np.clip(features, -_FLOAT16_MAX, _FLOAT16_MAX)
        self._stamps[level][slots] = stamp

    def ages(self, level: int, slots: np.ndarray, stamp: int) -> np.ndarray:
        """Return how many updates ago each was computed, (n,) int64; -1 where none is held."""
        if level not in self._stamps:
            return np.full(len(slots), -1, np.int64)
        stamps = self._stamps[level][slots]
        return np.where(stamps < 0, -1, stamp - stamps)

    def get(self, level: int, slots: np.ndarray) -> np.ndarray:
        """Return features (n, ...) float32 of slots that `ages` says are held."""
        return self._features[level][slots].astype(np.float32)

    def drop(self, slot: int) -> None:
        """Forget what was derived from a slot that has been overwritten."""
        for stamps in self._stamps.values():
            stamps[slot] = -1
