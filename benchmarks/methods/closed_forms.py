"""Closed forms over a fixed feature: sums of the samples, in any order.

Settings that matter are chosen on every tenth sample of the stream, never on held-out frames.
`macs` counts the sums, each solving, and the choice of settings.
"""

from __future__ import annotations

import numpy as np

from benchmarks.class_statistics import standardised_gram
from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.lda import StreamingLda

_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # of ridge, in units of its width
_LEAST_SPREAD = 0.2  # of the mean spread; smaller ones are not scaled up further
_SHRINKAGES = (1e-3, 0.01, 0.1, 0.3, 0.6, 0.9)  # of LDA
_HELD_BACK_EVERY = 10
_FEWEST_HELD = 20
_TUNE_GROWTH = 2.0  # of the samples, before a setting is chosen again
_RANDOM_FEATURES = 2000


class NearestMean:
    """The class whose mean feature has the largest cosine.

    Source: Mensink et al., "Distance-Based Image Classification", TPAMI 2013, section 3.2; with the
    cosine, as in Rebuffi et al., "iCaRL", CVPR 2017, section 2.1.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        self._means = ClassMeans(width)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        self._means.learn_many(features, labels)
        self.macs += features.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return cosines; see `FeatureClassifier`."""
        return self._means.scores_many(features)

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums."""
        return int(self._means.sums.nbytes)


class TunedLda:
    """Streaming LDA; its shrinkage is the best on every tenth sample of the stream.

    Source: Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
    Analysis", CVPR workshops 2020. Their one shrinkage of 1e-4 fails where samples are fewer than
    dimensions; here it is chosen among several as samples come. The answer uses all samples.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        self._all, self._learned = StreamingLda(width), StreamingLda(width)
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_seen, self._tuned_at, self._solved_at = 0, 0, 0
        self._width, self.macs = width, 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        held = _held_back(self._n_seen, len(labels))
        self._all.learn_many(features, labels)
        self._learned.learn_many(features[~held], labels[~held])
        if held.any():
            self._held.append((features[held], labels[held]))
        self._n_seen += len(labels)
        self.macs += (len(labels) + int((~held).sum())) * self._width**2

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return discriminants; see `FeatureClassifier`."""
        n_held = sum(len(y) for _, y in self._held)
        if n_held >= _FEWEST_HELD and self._n_seen >= _TUNE_GROWTH * self._tuned_at:
            self._tuned_at = self._n_seen
            self._all.shrinkage = self._best_shrinkage()
        if self._solved_at != self._n_seen:
            self._solved_at = self._n_seen
            self.macs += self._solve_macs(self._all)
        return self._all.scores_many(features)

    @property
    def n_bytes(self) -> int:
        """Bytes of the covariances, the means and the samples held back."""
        held = sum(x.nbytes for x, _ in self._held)
        return 2 * 4 * self._width * (self._width + len(self._all.counts)) + held

    def _best_shrinkage(self) -> float:
        x, y = (np.concatenate(part) for part in zip(*self._held, strict=True))
        right = {}
        for shrinkage in _SHRINKAGES:
            self._learned.shrinkage = shrinkage
            right[shrinkage] = float((self._learned.scores_many(x).argmax(1) == y).mean())
            answers = len(y) * self._width * len(self._learned.counts)
            self.macs += self._solve_macs(self._learned) + answers
        return max(right, key=lambda shrinkage: right[shrinkage])

    def _solve_macs(self, classifier: StreamingLda) -> int:
        """Return the multiply-adds of the covariance within classes and of solving with it."""
        return solve_macs(self._width, len(classifier.counts)) + (
            len(classifier.counts) * self._width**2
        )


class TunedRidge:
    """Ridge to one-hot targets over standardised values; its strength is chosen as samples come.

    Source: Hoerl and Kennard, "Ridge Regression", Technometrics 12, 1970. Sums only: X'X and X'Y of
    the samples learned and of those held back, every tenth, on which the strength of least squared
    error is taken, as RanPAC does. The answer uses all samples.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        self._width, self.macs = width, 0
        self._gram = np.zeros((2, width + 1, width + 1), np.float64)  # learned, held back
        self._targets: np.ndarray = np.zeros((2, width + 1, 0), np.float64)
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self._n_seen, self._fitted_at, self._tuned_at = 0, -1, 0
        self._strength = 0.3 * width
        self._weights = np.zeros((width + 1, 0))

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        x = _with_one(features)
        n_classes = max(self._targets.shape[2], int(labels.max()) + 1)
        missing = n_classes - self._targets.shape[2]
        self._targets = np.pad(self._targets, ((0, 0), (0, 0), (0, missing)))
        held = _held_back(self._n_seen, len(labels))
        for part, rows in enumerate((~held, held)):
            self._gram[part] += x[rows].T @ x[rows]
            self._targets[part] += x[rows].T @ np.eye(n_classes)[labels[rows]]
        if held.any():
            self._held.append((x[held], labels[held]))
        self._n_seen += len(labels)
        self.macs += len(labels) * (self._width + 1) ** 2
        self.macs += len(labels) * (self._width + 1) * n_classes

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return regression outputs; see `FeatureClassifier`."""
        if self._fitted_at != self._n_seen:
            self._fit()
        return np.asarray(_with_one(features) @ self._weights)

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums and of the samples held back."""
        held = sum(x.nbytes for x, _ in self._held)
        return int(self._gram.nbytes + self._targets.nbytes + held)

    def _fit(self) -> None:
        n_held = sum(len(y) for _, y in self._held)
        if n_held >= _FEWEST_HELD and self._n_seen >= _TUNE_GROWTH * self._tuned_at:
            self._tuned_at = self._n_seen
            x, y = (np.concatenate(part) for part in zip(*self._held, strict=True))
            targets = np.eye(self._targets.shape[2])[y]
            error = {}
            for value in (share * self._width for share in _STRENGTHS):
                weights = _solved(self._gram[0], self._targets[0], value)
                error[value] = float(np.square(x @ weights - targets).mean())
                self.macs += self._solve_macs() + x.size * targets.shape[1]
            self._strength = min(error, key=lambda value: error[value])
        self._weights = _solved(self._gram.sum(0), self._targets.sum(0), self._strength)
        self._fitted_at = self._n_seen
        self.macs += self._solve_macs()

    def _solve_macs(self) -> int:
        """Return the multiply-adds of standardising the sums and of solving with them."""
        n_classes = self._targets.shape[2]
        return solve_macs(self._width, n_classes) + (2 * self._width + n_classes) * self._width


def _with_one(features: np.ndarray) -> np.ndarray:
    one = np.ones((len(features), 1), np.float32)
    return np.concatenate([np.asarray(features, np.float32), one], axis=1)


def _solved(gram: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
    """Return weights (D + 1, K) of ridge over values standardised by the sums themselves."""
    n = max(gram[-1, -1], 1.0)
    mean, mean_target = gram[-1, :-1] / n, targets[-1] / n
    scale, centred = standardised_gram(gram[:-1, :-1], mean, n, _LEAST_SPREAD)
    regularised = (centred + strength * np.eye(len(mean))).astype("f4")
    right = scale[:, None] * (targets[:-1] - n * np.outer(mean, mean_target))
    weights = scale[:, None] * np.linalg.solve(regularised, right.astype("f4"))
    return np.concatenate([weights, (mean_target - mean @ weights)[None]]).astype(np.float32)


class RandomFeatureRidge(TunedRidge):
    """Ridge over rectified random projections (McDonnell et al., "RanPAC", NeurIPS 2023)."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__(_RANDOM_FEATURES, n_classes)
        rng = np.random.default_rng(0)
        self._directions = rng.standard_normal((width, _RANDOM_FEATURES)).astype(np.float32)
        self._directions /= np.sqrt(width)

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        super().learn_many(self._mapped(features), labels)
        self.macs += len(labels) * self._directions.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return regression outputs; see `FeatureClassifier`."""
        return super().scores_many(self._mapped(features))

    @property
    def n_bytes(self) -> int:
        """Bytes of the sums and the projection."""
        return super().n_bytes + int(self._directions.nbytes)

    def _mapped(self, features: np.ndarray) -> np.ndarray:
        return np.maximum(np.asarray(features, np.float32) @ self._directions, 0)


def solve_macs(width: int, n_right: int) -> int:
    """Return the multiply-adds of a linear system by elimination, for some right-hand sides."""
    return width**3 // 3 + n_right * width**2


def _held_back(n_seen: int, n: int) -> np.ndarray:
    return (n_seen + np.arange(n)) % _HELD_BACK_EVERY == _HELD_BACK_EVERY - 1
