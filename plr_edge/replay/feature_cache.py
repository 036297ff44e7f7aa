"""DerivedCache: features of deeper levels by memory slot, with the age of each. NumPy only.

Never the truth: what is too old or not held is computed anew from the latent.
"""

from __future__ import annotations

import numpy as np

from plr_edge.replay.schedule import Level
from plr_edge.replay.working_set import WorkingSet

_FLOAT16_BYTES = 2
_FLOAT16_MAX = 65504.0
_ENOUGH_PLACES = 4096  # where not all slots fit: fewer levels rather than fewer places
_LEAST_PLACES = 512  # fewer would be learned by heart


class DerivedCache:
    """Hold float16 features of the deepest levels, for every slot or for a working set."""

    def __init__(self, levels: tuple[Level, ...], n_slots: int, budget_bytes: int) -> None:
        """Choose levels, deepest first; level 0 is the latent itself and never cached.

        Args:
            levels: of the adaptive part.
            n_slots: of the latent memory.
            budget_bytes: in RAM.
        """
        n_places, first = _chosen(levels, n_slots, budget_bytes)
        self.n_places = n_places
        self.working = WorkingSet(n_places, n_slots) if 0 < n_places < n_slots else None
        # reserved at once, so that a limit of memory is met at the start; untouched it takes none
        self._features = {
            i: np.zeros((n_places, *levels[i].shape), np.float16) for i in range(first, len(levels))
        }
        self._stamps = {i: np.full(n_places, -1, np.int64) for i in self._features}

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return sum(array.nbytes for array in self._features.values())

    def holds(self, level: int) -> bool:
        """Say whether features of a level are kept at all."""
        return level in self._features

    def put(self, level: int, slots: np.ndarray, features: np.ndarray, stamp: int) -> None:
        """Keep features (n, ...) of `slots` as they are after `stamp` updates below the level.

        Those of slots outside the working set are not kept.
        """
        if level not in self._features:
            return
        places = self._places(slots)
        if places.min(initial=0) < 0:
            places, features = places[places >= 0], features[places >= 0]
        self._features[level][places] = np.clip(features, -_FLOAT16_MAX, _FLOAT16_MAX)
        self._stamps[level][places] = stamp

    def ages(self, level: int, slots: np.ndarray, stamp: int) -> np.ndarray:
        """Return how many updates ago each was computed, (n,) int64; -1 where none is held."""
        if level not in self._stamps:
            return np.full(len(slots), -1, np.int64)
        places = self._places(slots)
        stamps = np.where(places < 0, -1, self._stamps[level][places])
        return np.where(stamps < 0, -1, stamp - stamps)

    def get(self, level: int, slots: np.ndarray) -> np.ndarray:
        """Return features (n, ...) float32 of slots that `ages` says are held."""
        return self._features[level][self._places(slots)].astype(np.float32)

    def enter(self, slots: np.ndarray, labels: np.ndarray) -> None:
        """Let slots (n,) of classes (n,) into the working set, if there is one."""
        if self.working is not None:
            self._forget(self.working.enter(slots, labels))

    def drop(self, slot: int) -> None:
        """Forget what was derived from a slot that has been overwritten."""
        if self.working is not None:
            self.working.leave(slot)
        else:
            self._forget(np.array([slot]))

    def _forget(self, places: np.ndarray) -> None:
        for stamps in self._stamps.values():
            stamps[places] = -1

    def _places(self, slots: np.ndarray) -> np.ndarray:
        return slots if self.working is None else self.working.places(slots)


def _chosen(levels: tuple[Level, ...], n_slots: int, budget_bytes: int) -> tuple[int, int]:
    """Return how many places there are, and the first level that is kept for them."""
    best = (0, len(levels))
    each = 0
    for first in range(len(levels) - 1, 0, -1):
        each += levels[first].width * _FLOAT16_BYTES
        n_places = min(n_slots, budget_bytes // each)
        if n_places >= min(n_slots, _ENOUGH_PLACES) or (not best[0] and n_places >= _LEAST_PLACES):
            best = (n_places, first)
    return best
