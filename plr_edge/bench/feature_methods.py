"""Classifiers over a feature that never moves: the field's simple and strong ones.

Each learns a stream in chunks and answers at any time. Settings that matter are chosen on samples
of the stream that are held back for a moment, never on held-out frames. NumPy; torch for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans, unit
from plr_edge.classifiers.lda import StreamingLda
from plr_edge.memory import LatentMemory

_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # of ridge, in units of its width
_HELD_BACK_EVERY = 10
_TUNE_GROWTH = 1.5  # of the samples, until the strength is chosen anew
_RANDOM_FEATURES = 2000
_NEIGHBOURS = (1, 5, 15)
_MEMORY_BYTES = 8_000_000


class FeatureMethod(Protocol):
    """A classifier that learns from a stream of features."""

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn (n, D) float32 features of (n,) class indices."""
        ...

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return (n, K) scores, the largest for the answer."""
        ...

    @property
    def n_bytes(self) -> int:
        """Bytes kept for learning on."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-adds spent on learning so far."""
        ...


class NearestMean:
    """The class whose mean feature has the largest cosine."""

    def __init__(self, width: int) -> None:
        self._means = ClassMeans(width)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        self._means.learn_many(features, labels)
        self.macs += features.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return cosines; see `FeatureMethod`."""
        return self._means.scores_many(features)

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums."""
        return int(self._means.sums.nbytes)


class Lda:
    """Streaming linear discriminant analysis (Hayes and Kanan, CVPR workshops 2020)."""

    def __init__(self, width: int) -> None:
        self._lda = StreamingLda(width)
        self._width, self.macs = width, 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        self._lda.learn_many(features, labels)
        self.macs += len(labels) * self._width**2

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return discriminants; see `FeatureMethod`."""
        return self._lda.scores_many(features)

    @property
    def n_bytes(self) -> int:
        """Bytes of the covariance and the means."""
        return 4 * self._width * (self._width + len(self._lda.counts))


class TunedRidge:
    """Ridge to one-hot targets; its strength is the best on every tenth sample of the stream.

    Sums only: X'X and X'Y of the samples learned and of those held back, so that every strength
    can be scored at any time. The answer uses all samples.
    """

    def __init__(self, width: int) -> None:
        self._width, self.macs = width, 0
        self._gram = np.zeros((2, width + 1, width + 1), np.float64)  # learned, held back
        self._targets: np.ndarray = np.zeros((2, width + 1, 0), np.float64)
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_seen, self._fitted_at, self._tuned_at = 0, -1, 0
        self._strength = 0.3 * width
        self._weights = np.zeros((width + 1, 0))
        self._shift: np.ndarray | None = None
        self._scale = np.ones(width, np.float32)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        x = self._expanded(features)
        n_classes = max(self._targets.shape[2], int(labels.max()) + 1)
        missing = n_classes - self._targets.shape[2]
        self._targets = np.pad(self._targets, ((0, 0), (0, 0), (0, missing)))
        held = (self._n_seen + np.arange(len(labels))) % _HELD_BACK_EVERY == _HELD_BACK_EVERY - 1
        for part, rows in enumerate((~held, held)):
            self._gram[part] += x[rows].T @ x[rows]
            self._targets[part] += x[rows].T @ np.eye(n_classes)[labels[rows]]
        if held.any():
            self._held.append((x[held].astype(np.float32), labels[held]))
        self._n_seen += len(labels)
        self.macs += len(labels) * (self._width + 1) ** 2

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return regression outputs; see `FeatureMethod`."""
        if self._fitted_at != self._n_seen:
            self._fit()
        return np.asarray(self._expanded(features) @ self._weights)

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums and of the samples held back."""
        held = sum(x.nbytes for x, _ in self._held)
        return int(self._gram.nbytes + self._targets.nbytes + held)

    def _expanded(self, features: np.ndarray) -> np.ndarray:
        features = np.asarray(features, np.float32)
        if self._shift is None:  # a scale for all, from the first chunk
            self._shift = features.mean(0)
            spread = features.std(0)
            self._scale = 1 / np.maximum(spread, 0.2 * float(spread.mean()) + 1e-6)
        x = (features - self._shift) * self._scale
        return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)

    def _fit(self) -> None:
        n_held = sum(len(y) for _, y in self._held)
        if n_held >= 20 and self._n_seen >= _TUNE_GROWTH * self._tuned_at:
            self._tuned_at = self._n_seen
            x, y = (np.concatenate(part) for part in zip(*self._held, strict=True))
            right = {}
            for value in (share * self._width for share in _STRENGTHS):
                weights = self._solved(self._gram[0], self._targets[0], value)
                right[value] = float(((x @ weights).argmax(1) == y).mean())
            self._strength = max(right, key=lambda value: right[value])
        self._weights = self._solved(self._gram.sum(0), self._targets.sum(0), self._strength)
        self._fitted_at = self._n_seen

    def _solved(self, gram: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
        regularised = (gram + strength * np.eye(len(gram))).astype(np.float32)
        return np.linalg.solve(regularised, targets.astype(np.float32))


class RandomFeatureRidge(TunedRidge):
    """Ridge over rectified random projections (McDonnell et al., "RanPAC", NeurIPS 2023)."""

    def __init__(self, width: int) -> None:
        super().__init__(_RANDOM_FEATURES)
        rng = np.random.default_rng(0)
        self._directions = rng.standard_normal((width, _RANDOM_FEATURES)).astype(np.float32)
        self._directions /= np.sqrt(width)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        super().learn_many(self._mapped(features), labels)
        self.macs += len(labels) * self._directions.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return regression outputs; see `FeatureMethod`."""
        return super().scores_many(self._mapped(features))

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums and the projection."""
        return super().n_bytes + int(self._directions.nbytes)

    def _mapped(self, features: np.ndarray) -> np.ndarray:
        return np.maximum(np.asarray(features, np.float32) @ self._directions, 0)


class Memory:
    """A class-balanced memory of features in float32, under the same bytes as latents have."""

    def __init__(self, width: int, seed: int = 0) -> None:
        self.held = LatentMemory(4 * width, _MEMORY_BYTES, seed)
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
    """The most frequent class among the k most similar of a memory; k from held-back samples."""

    macs = 0  # nothing is computed to learn; answering costs D for each one held

    def __init__(self, width: int) -> None:
        self._memory = Memory(width)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        self._memory.add_many(unit(features), labels)

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return votes, nearer ones heavier; see `FeatureMethod`."""
        x, y = self._memory.features(), self._memory.held.labels
        return self._votes(unit(features), x, y, self._best_k(x, y))

    @property
    def n_bytes(self) -> int:
        """Bytes of the memory."""
        return self._memory.held.n_bytes

    def _best_k(self, x: np.ndarray, y: np.ndarray) -> int:
        held = np.arange(len(y)) % _HELD_BACK_EVERY == 0
        if held.sum() < 20:
            return 1
        rows = np.flatnonzero(held)[:200]
        right = {
            k: float((self._votes(x[rows], x[~held], y[~held], k).argmax(1) == y[rows]).mean())
            for k in _NEIGHBOURS
        }
        return max(right, key=lambda k: right[k])

    @staticmethod
    def _votes(queries: np.ndarray, x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
        scores = np.zeros((len(queries), int(y.max()) + 1), np.float32)
        for i in range(0, len(queries), 500):
            cosines = queries[i : i + 500] @ x.T
            near = np.argpartition(-cosines, min(k, len(y)) - 1, axis=1)[:, :k]
            weights = np.take_along_axis(cosines, near, 1) + 1
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


class NaiveBayes:
    """Gaussian naive Bayes: a mean and a variance for each class and value."""

    def __init__(self, width: int) -> None:
        self._counts: np.ndarray = np.zeros(0)
        self._sums: np.ndarray = np.zeros((2, 0, width))  # of x and of x squared
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        missing = max(0, int(labels.max()) + 1 - len(self._counts))
        self._counts = np.pad(self._counts, (0, missing))
        self._sums = np.pad(self._sums, ((0, 0), (0, missing), (0, 0)))
        np.add.at(self._counts, labels, 1)
        for i, x in enumerate((features, np.square(features, dtype=np.float64))):
            np.add.at(self._sums[i], labels, x)
        self.macs += 2 * features.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return log likelihoods; see `FeatureMethod`."""
        n = np.maximum(self._counts, 1)[:, None]
        means = self._sums[0] / n
        total = self._sums.sum(1) / self._counts.sum()
        floor = 0.1 * np.maximum(total[1] - total[0] ** 2, 0).mean()  # one sample has no variance
        variances = self._sums[1] / n - means**2 + floor
        x = np.asarray(features, np.float64)
        constant = -0.5 * np.log(variances).sum(1) - 0.5 * (means**2 / variances).sum(1)
        scores = x @ (means / variances).T - 0.5 * (x**2) @ (1 / variances).T + constant
        scores[:, self._counts == 0] = -np.inf
        return np.asarray(scores)

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums."""
        return int(self._sums.nbytes)


class Softmax:
    """Linear softmax classifier by SGD with momentum, with or without a memory of features.

    Method with memory: experience replay at the last layer, as in Hayes and Kanan, "Online
    Continual Learning for Embedded Devices", CoLLAs 2022.
    """

    def __init__(self, width: int, *, n_rehearsed: int = 64, lr: float = 0.1) -> None:
        self._weights: np.ndarray = np.zeros((0, width + 1), np.float32)
        self._momentum: np.ndarray = self._weights.copy()
        self._lr, self._n_rehearsed = lr, n_rehearsed
        self._memory = Memory(width)
        self._rng = np.random.default_rng(0)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureMethod`."""
        missing = max(0, int(labels.max()) + 1 - len(self._weights))
        self._weights = np.pad(self._weights, ((0, missing), (0, 0)))
        self._momentum = np.pad(self._momentum, ((0, missing), (0, 0)))
        x = unit(features)
        for _ in range(4 if self._n_rehearsed else 1):
            slots = self._memory.held.sample(self._n_rehearsed, self._rng)
            held = self._memory.features(slots)
            self._step(np.concatenate([x, held]), np.concatenate(
                [labels, self._memory.held.labels[slots]]).astype(np.int64))  # fmt: skip
        if self._n_rehearsed:
            self._memory.add_many(x, labels)

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


def _naive_softmax(width: int) -> Any:
    return Softmax(width, n_rehearsed=0)


FEATURE_METHODS: dict[str, Callable[[int], Any]] = {
    "nearest class mean": NearestMean,
    "streaming LDA": Lda,
    "ridge": TunedRidge,
    "random-feature ridge": RandomFeatureRidge,
    "k nearest neighbours": NearestNeighbours,
    "perceptron": Perceptron,
    "naive Bayes": NaiveBayes,
    "naive linear classifier": _naive_softmax,
    "feature replay": Softmax,
}
