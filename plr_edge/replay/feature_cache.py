"""FeatureCache: features of deeper levels by memory slot, with the age of each. NumPy only.

The latents stay the source of truth: a feature that is missing or too old is computed again.
"""

from __future__ import annotations

import numpy as np

from plr_edge.replay.schedule import Level
from plr_edge.replay.working_set import WorkingSet

_FLOAT16_BYTES = 2
_FLOAT16_MAX = 65504.0
_ENOUGH_SLOTS = 4096  # if not all slots fit: rather cache fewer levels than fewer slots
_MIN_SLOTS = 512  # with fewer, training would overfit to them


class FeatureCache:
    """Cache float16 features of the deepest levels, for every slot or for a working set.

    Attributes:
        capacity: number of slots that can be cached.
        working_set: the slots that are cached; None if the cache holds all slots, or nothing.
    """

    def __init__(self, levels: tuple[Level, ...], n_slots: int, budget_bytes: int) -> None:
        """Choose the levels to cache, deepest first; level 0, the latent, is never cached.

        Args:
            levels: levels of the adaptive part.
            n_slots: number of slots of the latent memory.
            budget_bytes: RAM that the features may take.
        """
        capacity, first = _capacity_and_first_level(levels, n_slots, budget_bytes)
        self.capacity = capacity
        self.working_set = WorkingSet(capacity, n_slots) if 0 < capacity < n_slots else None
        # allocated at once, so that a memory limit fails at the start; untouched pages cost nothing
        self._features = {
            i: np.zeros((capacity, *levels[i].shape), np.float16) for i in range(first, len(levels))
        }
        self._stamps = {i: np.full(capacity, -1, np.int64) for i in self._features}

    @property
    def n_bytes(self) -> int:
        """Bytes allocated for features."""
        return sum(array.nbytes for array in self._features.values())

    def holds(self, level: int) -> bool:
        """Return whether features of a level are cached at all."""
        return level in self._features

    def put(self, level: int, slots: np.ndarray, features: np.ndarray, stamp: int) -> None:
        """Cache features; slots outside the working set are skipped.

        Args:
            level: index of the level; nothing happens if it is not cached.
            slots: (n,) int64.
            features: (n, *shape of the level) float32.
            stamp: number of updates of the blocks below the level so far.
        """
        if level not in self._features:
            return
        at = self._indices(slots)
        if at.min(initial=0) < 0:
            at, features = at[at >= 0], features[at >= 0]
        self._features[level][at] = np.clip(features, -_FLOAT16_MAX, _FLOAT16_MAX)
        self._stamps[level][at] = stamp

    def ages(self, level: int, slots: np.ndarray, stamp: int) -> np.ndarray:
        """Return the age of each cached feature in updates, (n,) int64; -1 if none is cached.

        Args:
            level: index of the level.
            slots: (n,) int64.
            stamp: number of updates of the blocks below the level so far.
        """
        if level not in self._stamps:
            return np.full(len(slots), -1, np.int64)
        at = self._indices(slots)
        stamps = np.where(at < 0, -1, self._stamps[level][at])
        return np.where(stamps < 0, -1, stamp - stamps)

    def get(self, level: int, slots: np.ndarray) -> np.ndarray:
        """Return the features (n, *shape of the level) float32 of slots whose `ages` are not -1."""
        return self._features[level][self._indices(slots)].astype(np.float32)

    def admit(self, slots: np.ndarray, labels: np.ndarray) -> None:
        """Admit slots (n,) of classes (n,) to the working set, if there is one."""
        if self.working_set is not None:
            self._clear(self.working_set.admit(slots, labels))

    def drop(self, slot: int) -> None:
        """Drop the features of a slot that was overwritten."""
        if self.working_set is not None:
            self.working_set.remove(slot)
        else:
            self._clear(np.array([slot]))

    def _clear(self, indices: np.ndarray) -> None:
        for stamps in self._stamps.values():
            stamps[indices] = -1

    def _indices(self, slots: np.ndarray) -> np.ndarray:
        """Return where each slot (n,) lies in the arrays, -1 if nowhere."""
        return slots if self.working_set is None else self.working_set.indices(slots)


def _capacity_and_first_level(
    levels: tuple[Level, ...], n_slots: int, budget_bytes: int
) -> tuple[int, int]:
    """Return how many slots fit, and the first level that is cached for them."""
    best = (0, len(levels))
    bytes_per_slot = 0
    for first in range(len(levels) - 1, 0, -1):
        bytes_per_slot += levels[first].width * _FLOAT16_BYTES
        capacity = min(n_slots, budget_bytes // bytes_per_slot)
        if capacity >= min(n_slots, _ENOUGH_SLOTS) or (not best[0] and capacity >= _MIN_SLOTS):
            best = (capacity, first)
    return best
