"""LatentMemory: class-balanced records under a budget in bytes.

NumPy only. Holds opaque records of one size and the class each belongs to; what a record means is
the codec's business, and where it is kept on disk is the store's.

Method: class-balancing reservoir sampling (Chrysakis and Moens, "Online Continual Learning from
Imbalanced Data", ICML 2020, Algorithm 1).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

import numpy as np

from plr_edge.errors import ConfigError, StateError

_LABEL_BYTES = 4


class LatentMemory:
    """Keep a class-balanced sample of all records seen, within `budget_bytes`.

    Each class holds a uniform sample of its own past (a reservoir). When the budget is full, a new
    record takes the place of one of the largest class, unless its own class is the largest: then
    it takes a place of its own class with the odds of a reservoir.
    """

    def __init__(self, record_bytes: int, budget_bytes: int, seed: int = 0) -> None:
        """Reserve nothing yet; the arrays grow with use, up to the budget.

        Raises:
            ConfigError: not even one record fits.
        """
        self.record_bytes = record_bytes
        self.budget_bytes = budget_bytes
        self.capacity = budget_bytes // (record_bytes + _LABEL_BYTES)
        if self.capacity < 1:
            raise ConfigError(
                f"a memory of {budget_bytes} bytes holds no latent of {record_bytes}; "
                f"give at least {record_bytes + _LABEL_BYTES}"
            )
        self._rng = np.random.default_rng(seed)
        self._records = np.empty((0, record_bytes), np.uint8)
        self._labels = np.empty(0, np.int32)
        self._n = 0
        self._n_seen: dict[int, int] = {}
        self._slots: dict[int, list[int]] = {}  # of each class held, ascending
        self._held: list[int] = []  # classes held, ascending

    def __len__(self) -> int:
        return self._n

    @property
    def n_bytes(self) -> int:
        """Bytes in use, labels included; never above the budget."""
        return self._n * (self.record_bytes + _LABEL_BYTES)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32, class index of each record; a view, do not write."""
        return self._labels[: self._n]

    @property
    def n_seen(self) -> dict[int, int]:
        """Records offered so far, by class index."""
        return dict(self._n_seen)

    def add(self, record: np.ndarray, label: int) -> int | None:
        """Offer one record.

        Args:
            record: (record_bytes,) uint8.
            label: class index.

        Returns:
            The slot it was written to, or None if the draw went against it.
        """
        self._n_seen[label] = self._n_seen.get(label, 0) + 1
        slot = self._slot_for(label)
        if slot is not None:
            self._records[slot] = record
            self._labels[slot] = label
            self._enter(slot, label)
        return slot

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` different slots, each class equally likely while it lasts.

        Args:
            n: how many; all slots are returned where fewer are held.

        Returns:
            (min(n, len(self)),) int64.
        """
        if n == 0:
            return np.empty(0, np.int64)
        if n >= self._n:
            return np.asarray(rng.permutation(self._n))
        if n > self._n // 4:
            counts = np.bincount(self.labels)
            odds = 1.0 / counts[self.labels]
            # Gumbel top-n: weighted sampling without replacement in one pass
            keys = np.log(odds) + rng.gumbel(size=self._n)
            return np.argpartition(keys, -n)[-n:]
        chosen: dict[int, None] = {}  # the same odds, by rejection: no look at every slot
        while len(chosen) < n:
            classes = rng.integers(len(self._held), size=n).tolist()
            for c, u in zip(classes, rng.random(n).tolist(), strict=True):
                slots = self._slots[self._held[c]]
                chosen[slots[int(u * len(slots))]] = None
                if len(chosen) == n:
                    break
        return np.fromiter(chosen, np.int64, n)

    def records(self, slots: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the records of `slots`: (n, record_bytes) uint8, a copy."""
        return np.array(self._records[: self._n][slots])

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return what `from_arrays` needs: arrays, and facts that fit JSON."""
        arrays = {"records": self.records(), "labels": self.labels.copy()}
        facts = {
            "record_bytes": self.record_bytes,
            "budget_bytes": self.budget_bytes,
            "n_seen": {str(k): v for k, v in self._n_seen.items()},
            "rng": self._rng.bit_generator.state,
        }
        return arrays, facts

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, np.ndarray], facts: dict[str, Any], budget_bytes: int | None = None
    ) -> LatentMemory:
        """Rebuild a memory, under another budget if one is given.

        Raises:
            StateError: the arrays do not fit the facts.
        """
        records, labels = arrays["records"], arrays["labels"]
        record_bytes = int(facts["record_bytes"])
        if records.ndim != 2 or records.shape != (len(labels), record_bytes):
            raise StateError(
                f"latent memory holds {records.shape} for {len(labels)} labels; "
                "start with a fresh --state, or restore a copy"
            )
        memory = cls(record_bytes, budget_bytes or int(facts["budget_bytes"]))
        memory._rng.bit_generator.state = facts["rng"]
        memory._records, memory._labels = records.copy(), labels.astype(np.int32)
        memory._n = len(labels)
        memory._n_seen = {int(k): int(v) for k, v in facts["n_seen"].items()}
        memory._index()
        while memory._n > memory.capacity:
            memory._remove_one_of_largest()
        return memory

    def _slot_for(self, label: int) -> int | None:
        if self._n < self.capacity:
            self._grow()
            self._n += 1
            return self._n - 1
        own = self._slots.get(label, [])
        if len(own) < max(len(slots) for slots in self._slots.values()):
            return self._victim()
        place = int(self._rng.integers(self._n_seen[label]))
        if place >= len(own):
            return None
        slot = own[place]
        self._leave(slot)
        return slot

    def _victim(self) -> int:
        """Free a random slot of the largest class, or of one of them."""
        most = max(len(slots) for slots in self._slots.values())
        largest = [c for c in self._held if len(self._slots[c]) == most]
        slots = self._slots[largest[int(self._rng.integers(len(largest)))]]
        slot = slots[int(self._rng.integers(most))]
        self._leave(slot)
        return slot

    def _enter(self, slot: int, label: int) -> None:
        if label not in self._slots:
            self._slots[label] = []
            insort(self._held, label)
        insort(self._slots[label], slot)

    def _leave(self, slot: int) -> None:
        label = int(self._labels[slot])
        slots = self._slots[label]
        del slots[bisect_left(slots, slot)]
        if not slots:
            del self._slots[label], self._held[bisect_left(self._held, label)]

    def _index(self) -> None:
        """Find the slots of every class anew."""
        order = np.argsort(self.labels, kind="stable")
        classes, starts = np.unique(self.labels[order], return_index=True)
        parts = np.split(order, starts[1:])
        self._held = classes.tolist()
        parts = parts if len(order) else []
        self._slots = {int(c): part.tolist() for c, part in zip(classes, parts, strict=True)}

    def _grow(self) -> None:
        if self._n < len(self._records):
            return
        size = min(self.capacity, max(64, 2 * self._n))
        records = np.empty((size, self.record_bytes), np.uint8)
        labels = np.empty(size, np.int32)
        records[: self._n], labels[: self._n] = self._records[: self._n], self.labels
        self._records, self._labels = records, labels

    def _remove_one_of_largest(self) -> None:
        slot, last = self._victim(), self._n - 1
        if slot != last:
            label = int(self._labels[last])
            self._leave(last)
            self._records[slot], self._labels[slot] = self._records[last], label
            self._enter(slot, label)
        self._n -= 1
