"""A softmax classifier over a fixed feature, and a memory of features. NumPy."""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import unit
from plr_edge.replay.latent_memory import LatentMemory

MEMORY_BYTES = 8_000_000
_MORE_STEPS = 3  # from the memory alone, after the one with the new samples


class FeatureMemory:
    """A class-balanced memory of features in float32, under the same bytes as latents have."""

    def __init__(self, width: int, n_bytes: int = MEMORY_BYTES) -> None:
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


class Softmax:
    """Linear softmax classifier by SGD with momentum, with or without a memory of features.

    Method with memory: experience replay at the last layer, as in Hayes and Kanan, "Online
    Continual Learning for Embedded Devices", CoLLAs 2022.
    """

    def __init__(
        self, width: int, n_classes: int, *, n_rehearsed: int = 64, lr: float = 0.3
    ) -> None:
        self._weights: np.ndarray = np.zeros((0, width + 1), np.float32)
        self._momentum: np.ndarray = self._weights.copy()
        self._lr, self._n_rehearsed = lr, n_rehearsed
        self._memory = FeatureMemory(width)
        self._rng = np.random.default_rng(0)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
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
        """Return logits; see `FeatureClassifier`."""
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
        # forward, gradient, and the update with momentum
        self.macs += (2 * len(y) + 2) * self._weights.size

    @staticmethod
    def _with_one(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
