"""CombinedClassifier: what perception answers with. NumPy only.

Three closed looks at one frame, added up: ridge over mid-level taps and the deepest feature (right
from the first frames, exact, forgets nothing), the cosine classifier that rehearsal trained, and
class means, which also say when a frame is like nothing learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans, unit
from plr_edge.classifiers.ridge import Ridge

_YOUNG = 24  # samples below which ridge has too little to go by
_MOST_PENDING = 64  # samples that ridge may lag behind; class means never do
_SHARPNESS = 2.0  # of the softmax over standardised scores; about right on the embedded stream


@dataclass(frozen=True)
class Answer:
    """Scores of a batch.

    Attributes:
        probabilities: (n, K) float32, rows add up to one.
        similarity: (n,) float32, largest cosine to a class mean.
    """

    probabilities: np.ndarray
    similarity: np.ndarray


class CombinedClassifier:
    """Ridge, the rehearsed cosine classifier and class means over [taps, feature]."""

    def __init__(self, taps_width: int, feature_width: int, ridge_strength: float) -> None:
        """Start with no class."""
        self.taps_width = taps_width
        self.ridge = Ridge(taps_width + feature_width, ridge_strength)
        self.means = ClassMeans(feature_width)
        self.rehearsed = np.zeros((0, feature_width), np.float32)
        self.unknown_below = -1.0
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def n_classes(self) -> int:
        """Classes that it can answer with."""
        return len(self.means.counts)

    def learn_many(self, taps: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch: (n, T) taps, (n, D) features, (n,) class indices."""
        self.means.learn_many(features, labels)
        self.learn_ridge(taps, features, labels)

    def learn_ridge(self, taps: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        """Let ridge learn a batch, whose class means were learned already, when enough has come."""
        self._pending.append((np.concatenate([taps, features], axis=1), labels))
        n_pending = sum(len(y) for _, y in self._pending)
        if n_pending >= min(_MOST_PENDING, self.ridge.counts.sum() / 8):
            xs, ys = zip(*self._pending, strict=True)
            self._pending.clear()
            self.ridge.learn_many(np.concatenate(xs), np.concatenate(ys))

    def refit(
        self,
        taps: np.ndarray,
        features: np.ndarray,
        labels: np.ndarray,
        rehearsed: np.ndarray,
        unknown_quantile: float,
    ) -> None:
        """Fit everything anew to remembered samples, as features of a new generation.

        Args:
            taps: (n, T).
            features: (n, D) of the new generation.
            labels: (n,) class indices.
            rehearsed: (K, D) rows of the cosine classifier.
            unknown_quantile: share of the samples that may fall below the `unknown` threshold.
        """
        self.means = ClassMeans(features.shape[1])
        self.means.learn_many(features, labels)
        self._pending.clear()
        self.ridge.refit(np.concatenate([taps, features], axis=1), labels)
        self.rehearsed = rehearsed
        self.unknown_below = self._threshold(features, labels, unknown_quantile)

    def answer_many(self, taps: np.ndarray, features: np.ndarray) -> Answer:
        """Answer a batch; at least one class must have been learned."""
        cosines = self.means.scores_many(features)  # (n, K)
        seen = self.means.counts > 0
        total = _standardised(cosines, seen)
        if self.means.counts.sum() >= _YOUNG:
            total = self._with_ridge(taps, features, total)
            total += _standardised(self._rehearsed_scores(features, cosines), seen)
        total = np.where(seen, _SHARPNESS * total, -np.inf)
        odds = np.exp(total - total.max(axis=1, keepdims=True))
        probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return Answer(probabilities, cosines.max(axis=1))

    def rehearsed_scores(self, features: np.ndarray) -> np.ndarray:
        """Return the rehearsed classifier's cosines alone, (n, K)."""
        return self._rehearsed_scores(features, self.means.scores_many(features))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what answering needs, without the inverse that learning needs."""
        return {
            "ridge_weights": self.ridge.weights,
            "ridge_mean": self.ridge.mean,
            "ridge_scale": self.ridge.scale,
            "means_sums": self.means.sums,
            "means_counts": self.means.counts,
            "rehearsed": self.rehearsed,
            "unknown_below": np.array([self.unknown_below], np.float32),
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, np.ndarray], taps_width: int, **options: Any
    ) -> CombinedClassifier:
        """Rebuild one that can answer; `refit` it before it learns."""
        width = arrays["means_sums"].shape[1]
        self = cls(taps_width, width, options.get("ridge_strength", 1.0))
        self.means.sums, self.means.counts = arrays["means_sums"], arrays["means_counts"]
        self.ridge.mean, self.ridge.scale = arrays["ridge_mean"], arrays["ridge_scale"]
        self.rehearsed = arrays["rehearsed"]
        self.unknown_below = float(arrays["unknown_below"][0])
        self.ridge.weights = arrays["ridge_weights"]
        return self

    def _with_ridge(self, taps: np.ndarray, features: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Put ridge in the place of class means, but for classes that it has not met."""
        weights = self.ridge.weights
        met = np.abs(weights).sum(axis=1) > 0
        if met.sum() < 2:
            return total
        scores = self.ridge.with_weights(np.concatenate([taps, features], axis=1), weights)
        mixed = total.copy()
        mixed[:, : len(met)][:, met] = _standardised(scores, met)[:, met]
        return mixed

    def _rehearsed_scores(self, features: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        """Cosines to the rehearsed rows; to the mean for classes newer than the generation."""
        scores = cosines.copy()
        known = min(len(self.rehearsed), scores.shape[1])
        scores[:, :known] = unit(features) @ unit(self.rehearsed[:known]).T
        return scores

    def _threshold(self, features: np.ndarray, labels: np.ndarray, quantile: float) -> float:
        """Quantile of each sample's cosine to the mean of the others of its class."""
        x = unit(features)
        others = self.means.sums[labels] - x
        alone = self.means.counts[labels] < 2
        similarity = (unit(others) * x).sum(axis=1)[~alone]
        return float(np.quantile(similarity, quantile)) if len(similarity) else -1.0


def _standardised(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Shift and scale each row by its own mean and spread over the classes seen."""
    valid = scores[:, seen]
    spread = np.maximum(valid.std(axis=1, keepdims=True), 1e-6)
    return np.asarray((scores - valid.mean(axis=1, keepdims=True)) / spread)
