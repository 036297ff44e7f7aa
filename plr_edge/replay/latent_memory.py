"""LatentMemory: a class-balanced replay buffer with a budget in bytes. NumPy only.

It holds opaque records of one size, each with its class. The codec knows what a record means, and
the store where it is kept on disk. While a robot runs, a record is the packed latent of a label
followed by the number of this label in the label log (`with_seq`, `seqs_of`), by which a saved
memory finds its latents again.

Method: class-balancing reservoir sampling. Source: Chrysakis and Moens, "Online Continual Learning
from Imbalanced Data", ICML 2020, Algorithm 1.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

import numpy as np

from plr_edge.errors import ConfigError, StateError

SEQ_BYTES = 8  # of a label's number at the end of a record
_LABEL_BYTES = 4


class LatentMemory:
    """Keep a class-balanced sample of all records seen, within `budget_bytes`.

    Each class holds a uniform sample of its own past (a reservoir). Once the budget is used up, a
    new record replaces a random one of the largest class. If its own class is the largest, it
    replaces one of that class with the probability of reservoir sampling, or is dropped.

    Example:
        >>> memory = LatentMemory(record_bytes=6, budget_bytes=40)  # 10 bytes each, with the label
        >>> for label in [0, 0, 0, 0, 0, 1, 1]:
        ...     _ = memory.add(np.zeros(6, np.uint8), label)
        >>> len(memory), np.bincount(memory.labels).tolist()
        (4, [2, 2])
    """

    def __init__(self, record_bytes: int, budget_bytes: int, seed: int = 0) -> None:
        """Start empty. The arrays grow with use, up to the budget.

        Args:
            record_bytes: size of one record.
            budget_bytes: size of all records and their labels.
            seed: seed of the reservoirs.

        Raises:
            ConfigError: the budget does not hold a single record.
        """
        self.record_bytes = record_bytes
        self.budget_bytes = budget_bytes
        self.capacity = budget_bytes // (record_bytes + _LABEL_BYTES)
        if self.capacity < 1:
            raise ConfigError(
                f"a memory of {budget_bytes} bytes cannot hold a latent of {record_bytes} bytes; "
                f"give at least {record_bytes + _LABEL_BYTES}"
            )
        self._rng = np.random.default_rng(seed)
        self._records = np.empty((0, record_bytes), np.uint8)
        self._labels = np.empty(0, np.int32)
        self._n = 0
        self._n_seen: dict[int, int] = {}
        self._slots: dict[int, list[int]] = {}  # ascending, by class held
        self._classes: list[int] = []  # classes held, ascending

    def __len__(self) -> int:
        return self._n

    @property
    def n_bytes(self) -> int:
        """Bytes in use, including labels; never above the budget."""
        return self._n * (self.record_bytes + _LABEL_BYTES)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int32 class index of each record; a view, do not modify it."""
        return self._labels[: self._n]

    @property
    def n_seen(self) -> dict[int, int]:
        """Number of records offered so far, by class index."""
        return dict(self._n_seen)

    def add(self, record: np.ndarray, label: int) -> int | None:
        """Offer one record.

        Args:
            record: (record_bytes,) uint8.
            label: class index.

        Returns:
            The slot it was written to, or None if it was not sampled.
        """
        self._n_seen[label] = self._n_seen.get(label, 0) + 1
        slot = self._slot_for(label)
        if slot is not None:
            self._records[slot] = record
            self._labels[slot] = label
            self._link(slot, label)
        return slot

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw distinct slots, each class with equal probability until it is exhausted.

        Args:
            n: how many; all slots are returned if there are fewer.
            rng: source of randomness.

        Returns:
            (min(n, len(self)),) int64 slots.
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
        chosen: dict[int, None] = {}  # the same distribution by rejection, without a full pass
        while len(chosen) < n:
            classes = rng.integers(len(self._classes), size=n).tolist()
            for c, u in zip(classes, rng.random(n).tolist(), strict=True):
                slots = self._slots[self._classes[c]]
                chosen[slots[int(u * len(slots))]] = None
                if len(chosen) == n:
                    break
        return np.fromiter(chosen, np.int64, n)

    def records(self, slots: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the records of `slots`: (n, record_bytes) uint8, a copy."""
        return np.array(self._records[: self._n][slots])

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the arrays and the JSON-serialisable metadata that `from_arrays` needs."""
        arrays = {"records": self.records(), "labels": self.labels.copy()}
        metadata = {
            "record_bytes": self.record_bytes,
            "budget_bytes": self.budget_bytes,
            "n_seen": {str(k): v for k, v in self._n_seen.items()},
            "rng": self._rng.bit_generator.state,
        }
        return arrays, metadata

    @classmethod
    def from_arrays(
        cls,
        arrays: dict[str, np.ndarray],
        metadata: dict[str, Any],
        budget_bytes: int | None = None,
    ) -> LatentMemory:
        """Rebuild a memory from the result of `to_arrays`.

        Args:
            arrays: `records` (n, record_bytes) uint8 and `labels` (n,) int32.
            metadata: sizes, counters and random state.
            budget_bytes: a new budget; the saved one by default. If it is smaller, records of the
                largest classes are dropped.

        Raises:
            StateError: the arrays do not fit the metadata.
        """
        records, labels = arrays["records"], arrays["labels"]
        record_bytes = int(metadata["record_bytes"])
        if records.ndim != 2 or records.shape != (len(labels), record_bytes):
            raise StateError(
                f"the saved latent memory has records of shape {records.shape} for {len(labels)} "
                f"labels; it needs ({len(labels)}, {record_bytes}); start with a fresh --state, or "
                "restore a copy"
            )
        saved_bytes = int(metadata["budget_bytes"])
        memory = cls(record_bytes, saved_bytes if budget_bytes is None else budget_bytes)
        memory._rng.bit_generator.state = metadata["rng"]
        memory._records, memory._labels = records.copy(), labels.astype(np.int32)
        memory._n = len(labels)
        memory._n_seen = {int(k): int(v) for k, v in metadata["n_seen"].items()}
        memory._rebuild_index()
        while memory._n > memory.capacity:
            memory._shrink()
        return memory

    def _slot_for(self, label: int) -> int | None:
        """Return the slot that a new record of a class takes, or None if it is dropped."""
        if self._n < self.capacity:
            self._grow()
            self._n += 1
            return self._n - 1
        own = self._slots.get(label, [])
        if len(own) < max(len(slots) for slots in self._slots.values()):
            return self._evict()
        place = int(self._rng.integers(self._n_seen[label]))
        if place >= len(own):
            return None
        slot = own[place]
        self._unlink(slot)
        return slot

    def _evict(self) -> int:
        """Free and return a random slot of the largest class; ties are broken at random."""
        most = max(len(slots) for slots in self._slots.values())
        largest = [c for c in self._classes if len(self._slots[c]) == most]
        slots = self._slots[largest[int(self._rng.integers(len(largest)))]]
        slot = slots[int(self._rng.integers(most))]
        self._unlink(slot)
        return slot

    def _link(self, slot: int, label: int) -> None:
        if label not in self._slots:
            self._slots[label] = []
            insort(self._classes, label)
        insort(self._slots[label], slot)

    def _unlink(self, slot: int) -> None:
        label = int(self._labels[slot])
        slots = self._slots[label]
        del slots[bisect_left(slots, slot)]
        if not slots:
            del self._slots[label], self._classes[bisect_left(self._classes, label)]

    def _rebuild_index(self) -> None:
        """Rebuild `_slots` and `_classes` from the labels."""
        order = np.argsort(self.labels, kind="stable")
        classes, starts = np.unique(self.labels[order], return_index=True)
        parts = np.split(order, starts[1:])
        self._classes = classes.tolist()
        parts = parts if len(order) else []
        self._slots = {int(c): part.tolist() for c, part in zip(classes, parts, strict=True)}

    def _grow(self) -> None:
        """Make room for one more record, by doubling the arrays."""
        if self._n < len(self._records):
            return
        size = min(self.capacity, max(64, 2 * self._n))
        records = np.empty((size, self.record_bytes), np.uint8)
        labels = np.empty(size, np.int32)
        records[: self._n], labels[: self._n] = self._records[: self._n], self.labels
        self._records, self._labels = records, labels

    def _shrink(self) -> None:
        """Drop one record of the largest class, and move the last one into its slot."""
        slot, last = self._evict(), self._n - 1
        if slot != last:
            label = int(self._labels[last])
            self._unlink(last)
            self._records[slot], self._labels[slot] = self._records[last], label
            self._link(slot, label)
        self._n -= 1


def with_seq(records: np.ndarray, seqs: np.ndarray) -> np.ndarray:
    """Append to each record its label's number in the label log.

    Args:
        records: (n, b) uint8 packed latents.
        seqs: (n,) int64 numbers.

    Returns:
        (n, b + SEQ_BYTES) uint8.
    """
    tail = np.ascontiguousarray(seqs, np.int64).view(np.uint8).reshape(len(records), SEQ_BYTES)
    return np.concatenate([records, tail], axis=1)


def seqs_of(records: np.ndarray) -> np.ndarray:
    """Return the numbers (n,) int64 at the end of records (n, b) uint8."""
    tails = np.ascontiguousarray(records[:, -SEQ_BYTES:])
    return tails.view(np.int64).reshape(-1)
