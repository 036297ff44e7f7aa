"""WorkingSet: which slots of a large latent memory are rehearsed from for now. NumPy only.

A memory may hold more than can be kept ready for training. A class-balanced part of it has places
and is renewed all the time, so that a step costs the same however many latents are stored, and
every latent gets its turn.
"""

from __future__ import annotations

import numpy as np


class WorkingSet:
    """Give places to slots; the oldest of the largest class makes room for a new one."""

    def __init__(self, n_places: int, n_slots: int) -> None:
        """Start empty, with `n_places` for some of the `n_slots` of a memory."""
        self.n_places = n_places
        self._slots = np.full(n_places, -1, np.int64)
        self._labels = np.zeros(n_places, np.int64)
        self._entered = np.zeros(n_places, np.int64)
        self._place_of = np.zeros(n_slots, np.int32)  # and one; untouched pages take no memory
        self._n_entered = 0
        self._groups: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def slots(self) -> np.ndarray:
        """(n,) int64 members, in no order."""
        return self._slots[self._slots >= 0]

    def places(self, slots: np.ndarray) -> np.ndarray:
        """Return the place of each slot (n,), -1 where it has none."""
        return self._place_of[slots] - 1

    def enter(self, slots: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Let slots in as the youngest; members become the youngest again.

        Args:
            slots: (n,) different ones, at most as many as there are places.
            labels: (n,) class indices.

        Returns:
            (m,) places that belong to other slots than before.
        """
        new = self.places(slots) < 0
        n_new = int(new.sum())
        self._n_entered += 1
        self._entered[self.places(slots[~new])] = self._n_entered  # they do not make room
        self._groups = None
        n_free = int((self._slots < 0).sum())
        if n_new > n_free:
            self._evict(n_new - n_free, labels[new])
        free = np.flatnonzero(self._slots < 0)[:n_new]
        self._slots[free], self._labels[free] = slots[new], labels[new]
        self._entered[free] = self._n_entered
        self._place_of[slots[new]] = free + 1
        self._groups = None
        return free

    def leave(self, slot: int) -> None:
        """Take the place of a slot away, if it has one."""
        if self._place_of[slot]:
            self._slots[self._place_of[slot] - 1] = -1
            self._place_of[slot] = 0
            self._groups = None

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` different members, far fewer than there are, each class equally likely.

        Returns:
            (n,) int64 slots.
        """
        order, starts, counts = self._by_class()
        chosen: dict[int, None] = {}
        while len(chosen) < n:
            c = rng.integers(len(counts), size=n)
            at = starts[c] + (rng.random(n) * counts[c]).astype(np.int64)
            for slot in self._slots[order[at]].tolist():
                chosen[slot] = None
                if len(chosen) == n:
                    break
        return np.fromiter(chosen, np.int64, n)

    def _by_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return places by class, oldest first; where each class starts, and how many it has."""
        if self._groups is None:
            held = np.flatnonzero(self._slots >= 0)
            order = held[np.lexsort((self._entered[held], self._labels[held]))]
            _, starts, counts = np.unique(
                self._labels[order], return_index=True, return_counts=True
            )
            self._groups = order, starts, counts
        return self._groups

    def _evict(self, n: int, entering: np.ndarray) -> None:
        """Free `n` places: the oldest of the largest classes, those who enter counted in."""
        order, starts, counts = self._by_class()
        sizes = counts + (entering[:, None] == self._labels[order[starts]]).sum(axis=0)
        out = np.zeros(len(sizes), np.int64)
        for _ in range(n):
            largest = int(np.where(out < counts, sizes, -1).argmax())
            sizes[largest] -= 1
            out[largest] += 1
        places = np.concatenate([order[a : a + k] for a, k in zip(starts, out, strict=True)])
        self._place_of[self._slots[places]] = 0
        self._slots[places] = -1
