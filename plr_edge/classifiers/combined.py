"""CombinedClassifier: what perception answers with. NumPy only.

Two timescales, added up. Fast: ridge over taps of the frozen part, where nothing ever goes stale,
exact and forgetting nothing; class means for what is too new for it. Slow, over the adapted
feature: the cosine classifier that rehearsal trained, and class means for a quarter beside it;
class means alone for what was not rehearsed yet.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans, unit
from plr_edge.classifiers.ridge import Ridge

_YOUNG = 24  # samples below which ridge has too little to go by
_FEW = 15  # the same, of one class beside older ones
_FEW_SHARE = 0.75  # of the samples a class has on average: no class is young where all are
_MOST_PENDING = 64  # samples that ridge may lag behind; class means never do
_GROWTH = 1.25  # of the samples, until a young ridge is solved anew
_NEAR = 0.25  # weight of class means beside the rehearsed rows, which have one
_SHARPNESS = 2.0  # of the softmax over standardised scores; about right on the embedded stream


class CombinedClassifier:
    """Ridge over taps, the rehearsed cosine classifier and class means over the adapted feature."""

    def __init__(
        self, taps_width: int, feature_width: int, ridge_strength: float | None = None
    ) -> None:
        """Start with no class."""
        self.ridge = Ridge(taps_width, ridge_strength)
        self.means = ClassMeans(feature_width)
        self.rehearsed = np.zeros((0, feature_width), np.float32)
        self.unknown_below = -1.0
        self.pending: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def rehearsed(self) -> np.ndarray:
        """(K, D) float32, rows of the rehearsed classifier; zero for classes it does not know."""
        return self._rehearsed

    @rehearsed.setter
    def rehearsed(self, rows: np.ndarray) -> None:
        self._rehearsed, self._directions = rows, unit(rows)
        self._is_rehearsed = np.abs(rows).sum(axis=1) > 0

    @property
    def n_classes(self) -> int:
        """Classes that it can answer with."""
        return len(self.means.counts)

    def learn_many(self, taps: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch: (n, T) taps, (n, D) features, (n,) class indices."""
        self.means.learn_many(features, labels)
        self.learn_ridge(taps, labels)

    def learn_ridge(self, taps: np.ndarray, labels: np.ndarray) -> None:
        """Let ridge learn a batch, when enough has come; class means never wait."""
        self.pending.append((taps, labels))
        n_pending = sum(len(y) for _, y in self.pending)
        if n_pending >= min(_MOST_PENDING, self.ridge.counts.sum() / 8):
            self.settle(_GROWTH)

    def settle(self, growth: float = 1.0) -> None:
        """Let ridge catch up with what it was taught; see `Ridge.settle`."""
        if self.pending:
            taps, labels = (np.concatenate(part) for part in zip(*self.pending, strict=True))
            self.pending.clear()
            self.ridge.learn_many(taps, labels)
        self.ridge.settle(growth)

    def take_means(self, means: ClassMeans, unknown_below: float) -> None:
        """Go on with what `fit_means` fitted; classes that it does not know are kept."""
        means.adopt_missing(self.means)
        self.means, self.unknown_below = means, unknown_below

    def answer_many(
        self, taps: np.ndarray, features: np.ndarray, cosines: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answer a batch.

        Args:
            taps: (n, T).
            features: (n, D), adapted.
            cosines: (n, K) to the class means as they were for each frame, -1 where a class had not
                been seen; to those of now by default.

        Returns:
            probabilities: (n, K) float32; rows add up to one, or to zero where nothing was known.
            similarity: (n,) float32, largest cosine to a class mean.
        """
        if cosines is None:
            cosines = self.means.scores_many(features)
        seen = cosines > -1.0  # (n, K)
        total = near = _standardised(cosines, seen)
        if self.means.counts.sum() >= _YOUNG:
            ridge = self.ridge.fitted  # once: another thread may replace it
            fast = _instead(near, ridge.scores(taps), _old(ridge.counts))
            rehearsed = unit(features) @ self._directions.T
            slow = _instead(near, rehearsed, self._is_rehearsed)
            total = fast + slow + _NEAR * near
        total = np.where(seen, _SHARPNESS * total, -np.inf)
        highest = total.max(axis=1, keepdims=True, initial=-np.inf)
        odds = np.exp(total - np.where(np.isfinite(highest), highest, 0.0))
        probabilities = odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-30)
        return probabilities.astype(np.float32), cosines.max(axis=1, initial=-1.0)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what answering needs; `ridge.learning_arrays` has what learning needs besides."""
        self.settle()
        return {
            **{f"ridge.{name}": array for name, array in self.ridge.to_arrays().items()},
            "means.sums": self.means.sums,
            "means.counts": self.means.counts,
            "rehearsed": self.rehearsed,
            "unknown_below": np.array([self.unknown_below], np.float32),
        }

    def restore(
        self, arrays: Mapping[str, np.ndarray], learning: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Go on from what `to_arrays` gave; with ridge's `learning_arrays` it can learn too.

        Raises:
            StateError: the arrays do not fit these widths.
        """
        ridge = {name: arrays[f"ridge.{name}"] for name in ("weights", "mean", "scale", "counts")}
        self.ridge.restore(ridge, learning)
        self.means.sums, self.means.counts = arrays["means.sums"], arrays["means.counts"]
        self.rehearsed = arrays["rehearsed"]
        self.unknown_below = float(arrays["unknown_below"][0])


def _old(counts: np.ndarray) -> np.ndarray:
    """Say of which classes (K,) ridge has enough samples, beside the others, to be just to them."""
    return counts >= max(1.0, min(_FEW, _FEW_SHARE * counts.sum() / max(len(counts), 1)))


def _instead(scores: np.ndarray, better: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Put better scores (n, k <= K), standardised, in the place of `scores` (n, K).

    A class that `better` does not know yet wins where `scores` put it above the winner of `better`.
    """
    if known.sum() < 2:
        return scores
    mixed, at = scores.copy(), np.arange(len(scores))
    better = _standardised(better, np.broadcast_to(known, better.shape))
    winner = np.where(known, better, -np.inf).argmax(axis=1)
    mixed += (better[at, winner] - scores[at, winner])[:, None]
    mixed[:, : len(known)][:, known] = better[:, known]
    return mixed


def _standardised(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Shift and scale each row (n, K) by its own mean and spread over the classes seen (n, K)."""
    n_seen = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    centred = scores - (scores * seen).sum(axis=1, keepdims=True) / n_seen
    spread = np.sqrt((centred**2 * seen).sum(axis=1, keepdims=True) / n_seen)
    return np.asarray(centred / np.maximum(spread, 1e-6))
