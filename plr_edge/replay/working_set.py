"""WorkingSet: the slots of a large latent memory that are currently rehearsed. NumPy only.

A memory may hold more latents than can be kept ready for training. A class-balanced part of it is
cached and renewed all the time. A step then costs the same however many latents are stored, and
every latent gets its turn.
"""

from __future__ import annotations

import numpy as np


class WorkingSet:
    """A class-balanced set of slots with fixed capacity.

    A new slot replaces the oldest one of the largest class. Each member has an index into arrays
    of `capacity` rows.
    """

    def __init__(self, capacity: int, n_slots: int) -> None:
        """Start empty.

        Args:
            capacity: largest number of members.
            n_slots: number of slots of the latent memory.
        """
        self.capacity = capacity
        self._slots = np.full(capacity, -1, np.int64)  # by index; -1 is free
        self._labels = np.zeros(capacity, np.int64)
        self._admitted = np.zeros(capacity, np.int64)  # number of the call to `admit`
        self._index_of = np.zeros(n_slots, np.int32)  # plus one; untouched pages take no memory
        self._n_calls = 0
        self._groups: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def slots(self) -> np.ndarray:
        """(n,) int64 members, in no particular order."""
        return self._slots[self._slots >= 0]

    def indices(self, slots: np.ndarray) -> np.ndarray:
        """Return the index of each slot (n,), -1 if it is not a member."""
        return self._index_of[slots] - 1

    def admit(self, slots: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Admit slots as the youngest members; a slot that is a member becomes young again.

        Args:
            slots: (n,) distinct slots, at most `capacity`.
            labels: (n,) class indices.

        Returns:
            (m,) indices that now belong to another slot.
        """
        new = self.indices(slots) < 0
        n_new = int(new.sum())
        self._n_calls += 1
        self._admitted[self.indices(slots[~new])] = self._n_calls  # young again, so not evicted
        self._groups = None
        n_free = int((self._slots < 0).sum())
        if n_new > n_free:
            self._evict(n_new - n_free, labels[new])
        free = np.flatnonzero(self._slots < 0)[:n_new]
        self._slots[free], self._labels[free] = slots[new], labels[new]
        self._admitted[free] = self._n_calls
        self._index_of[slots[new]] = free + 1
        self._groups = None
        return free

    def remove(self, slot: int) -> None:
        """Remove a slot, if it is a member."""
        if self._index_of[slot]:
            self._slots[self._index_of[slot] - 1] = -1
            self._index_of[slot] = 0
            self._groups = None

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw distinct members, each class with equal probability.

        Args:
            n: how many, far fewer than there are members.
            rng: source of randomness.

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
        """Return the indices ordered by class, oldest first, and start and size of each class."""
        if self._groups is None:
            held = np.flatnonzero(self._slots >= 0)
            order = held[np.lexsort((self._admitted[held], self._labels[held]))]
            _, starts, counts = np.unique(
                self._labels[order], return_index=True, return_counts=True
            )
            self._groups = order, starts, counts
        return self._groups

    def _evict(self, n: int, entering: np.ndarray) -> None:
        """Free `n` indices: the oldest of the largest classes.

        Args:
            n: how many.
            entering: (m,) labels of the slots to be admitted, which count towards class sizes.
        """
        order, starts, counts = self._by_class()
        sizes = counts + (entering[:, None] == self._labels[order[starts]]).sum(axis=0)
        out = np.zeros(len(sizes), np.int64)
        for _ in range(n):
            largest = int(np.where(out < counts, sizes, -1).argmax())
            sizes[largest] -= 1
            out[largest] += 1
        evicted = np.concatenate([order[a : a + k] for a, k in zip(starts, out, strict=True)])
        self._index_of[self._slots[evicted]] = 0
        self._slots[evicted] = -1
