"""Learners over a feature that never moves: memories of samples, and gradient steps. NumPy."""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import unit
from plr_edge.replay.latent_memory import LatentMemory

_HELD_BACK_EVERY = 10
_NEIGHBOURS = (1, 5, 15)
_MEMORY_BYTES = 8_000_000
_MORE_STEPS = 3  # from the memory alone, after the one with the new samples


class FeatureMemory:
    """A class-balanced memory of features in float32, under the same bytes as latents have."""

    def __init__(self, width: int, n_bytes: int = _MEMORY_BYTES) -> None:
        self.held = LatentMemory(4 * width, n_bytes, seed=0)
        self._width = width

    def add_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Offer features (n, D) of classes (n,)."""
        records = np.ascontiguousarray(features, np.float32).view(np.uint8)
        for record, label in zip(records.reshape(len(labels), -1), labels, strict=True):
            self.held.add(record, int(label))

    def features(self, slots: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return features (n, D)."""
        return self.held.records(slots).view(np.float32)


class NearestNeighbours:
    """The most frequent class among the k most similar of a memory; k from held-back samples.

    Source: Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on
    Information Theory 13, 1967.
    """

    macs = 0  # nothing is computed to learn; answering costs D for each one held

    def __init__(
        self,
        width: int,
        *,
        choices: tuple[int, ...] = _NEIGHBOURS,
        n_bytes: int = _MEMORY_BYTES,
        equal_votes: bool = False,
    ) -> None:
        self._memory, self._choices = FeatureMemory(width, n_bytes), choices
        self._equal_votes = equal_votes

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        self._memory.add_many(unit(features), labels)

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return votes, nearer ones heavier unless all are equal; see `FeatureMethod`."""
        x, y = self._memory.features(), self._memory.held.labels
        return self._votes(unit(features), x, y, self._best_k(x, y))

    @property
    def n_bytes(self) -> int:
        """Bytes of the memory."""
        return self._memory.held.n_bytes

    def _best_k(self, x: np.ndarray, y: np.ndarray) -> int:
        held = np.arange(len(y)) % _HELD_BACK_EVERY == 0
        if held.sum() < 20 or len(self._choices) == 1:
            return self._choices[0]
        rows = np.flatnonzero(held)[:200]
        right = {
            k: float((self._votes(x[rows], x[~held], y[~held], k).argmax(1) == y[rows]).mean())
            for k in self._choices
        }
        return max(right, key=lambda k: right[k])

    def _votes(self, queries: np.ndarray, x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
        scores = np.zeros((len(queries), int(y.max()) + 1), np.float32)
        for i in range(0, len(queries), 500):
            cosines = queries[i : i + 500] @ x.T
            near = np.argpartition(-cosines, min(k, len(y)) - 1, axis=1)[:, :k]
            weights = np.take_along_axis(cosines, near, 1) + 1
            if self._equal_votes:
                weights = np.ones_like(weights)
            for row, (labels, weight) in enumerate(zip(y[near], weights, strict=True), i):
                np.add.at(scores[row], labels, weight)
        return scores


class Perceptron:
    """Multiclass perceptron whose answer is that of its average weights.

    Source: Freund and Schapire, "Large Margin Classification Using the Perceptron Algorithm",
    Machine Learning 37, 1999, section 3.
    """

    def __init__(self, width: int) -> None:
        self._rows: np.ndarray = np.zeros((0, width), np.float32)
        self._sums: np.ndarray = np.zeros((0, width), np.float64)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        missing = max(0, int(labels.max()) + 1 - len(self._rows))
        self._rows = np.pad(self._rows, ((0, missing), (0, 0)))
        self._sums = np.pad(self._sums, ((0, missing), (0, 0)))
        for x, label in zip(unit(features), labels, strict=True):
            guess = int((self._rows @ x).argmax())
            if guess != label:
                self._rows[label] += x
                self._rows[guess] -= x
            self._sums += self._rows
        self.macs += len(labels) * self._rows.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return products with the average weights; see `FeatureMethod`."""
        return np.asarray(unit(features) @ self._sums.T.astype(np.float32))

    @property
    def n_bytes(self) -> int:
        """Bytes of both sets of weights."""
        return int(self._rows.nbytes + self._sums.nbytes)


class Softmax:
    """Linear softmax classifier by SGD with momentum, with or without a memory of features.

    Method with memory: experience replay at the last layer, as in Hayes and Kanan, "Online
    Continual Learning for Embedded Devices", CoLLAs 2022.
    """

    def __init__(self, width: int, *, n_rehearsed: int = 64, lr: float = 0.3) -> None:
        self._weights: np.ndarray = np.zeros((0, width + 1), np.float32)
        self._momentum: np.ndarray = self._weights.copy()
        self._lr, self._n_rehearsed = lr, n_rehearsed
        self._memory = FeatureMemory(width)
        self._rng = np.random.default_rng(0)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        missing = max(0, int(labels.max()) + 1 - len(self._weights))
        self._weights = np.pad(self._weights, ((0, missing), (0, 0)))
        self._momentum = np.pad(self._momentum, ((0, missing), (0, 0)))
        x = unit(features)
        held = self._memory.held.sample(self._n_rehearsed, self._rng)
        self._step(
            np.concatenate([x, self._memory.features(held)]),
            np.concatenate([labels, self._memory.held.labels[held]]).astype(np.int64),
        )
        if self._n_rehearsed:
            self._memory.add_many(x, labels)
            for _ in range(_MORE_STEPS):
                held = self._memory.held.sample(self._n_rehearsed + len(x), self._rng)
                self._step(
                    self._memory.features(held), self._memory.held.labels[held].astype(np.int64)
                )

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return logits; see `FeatureMethod`."""
        return np.asarray(self._with_one(unit(features)) @ self._weights.T)

    @property
    def n_bytes(self) -> int:
        """Bytes of the memory and the weights."""
        return self._memory.held.n_bytes + int(self._weights.nbytes)

    def _step(self, x: np.ndarray, y: np.ndarray) -> None:
        x = self._with_one(x)
        logits = 16 * x @ self._weights.T
        odds = np.exp(logits - logits.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        odds[np.arange(len(y)), y] -= 1
        self._momentum = 0.9 * self._momentum + 16 * odds.T @ x / len(y)
        self._weights -= self._lr / 16 * self._momentum
        self.macs += 3 * len(y) * self._weights.size

    @staticmethod
    def _with_one(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
