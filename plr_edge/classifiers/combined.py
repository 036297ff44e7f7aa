"""CombinedClassifier: the classifier that perception answers with. NumPy only.

It adds up two classifiers that learn at different speeds:

- Fast: ridge over the *taps*. Taps are intermediate features: pooled outputs of frozen blocks that
  the frozen part returns with the latent. The frozen part never changes, so they never go stale,
  and ridge is exact and forgets nothing.
- Slow: the cosine classifier that rehearsal trained, over the adapted feature.

Class means over the adapted feature replace the score of a class that either of the two does not
know well enough yet, and also contribute with a small weight of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans, unit
from plr_edge.classifiers.ridge import Ridge

_MIN_SAMPLES = 24  # below this total, class means answer alone
_MIN_CLASS_SAMPLES = 15  # ridge needs this many of a class ...
_MIN_CLASS_SHARE = 0.75  # ... or this share of the average class size, if that is smaller
_MAX_PENDING = 64  # samples that ridge may lag behind; class means never lag
_REFIT_GROWTH = 1.25  # ridge is refitted once it has stored so many times more samples
_MEANS_WEIGHT = 0.25  # weight of class means beside the fast and slow scores, which have 1
_SHARPNESS = 2.0  # inverse temperature of the softmax; about right on the embedded stream


class CombinedClassifier:
    """Ridge over taps, plus a rehearsed cosine classifier and class means over adapted features.

    Attributes:
        ridge: the fast classifier, over taps (T,).
        means: class means over adapted features (D,).
        rehearsed: (K, D) float32, weight of the rehearsed cosine classifier; a row of zeros marks
            a class that it does not know.
        unknown_below: cosine similarity to the nearest mean below which a frame is unknown.
        pending: batches of taps (n, T) and labels (n,) that ridge has not learned yet.
    """

    def __init__(
        self, taps_width: int, feature_width: int, ridge_strength: float | None = None
    ) -> None:
        """Start without classes.

        Args:
            taps_width: T, the length of the taps.
            feature_width: D, the length of an adapted feature.
            ridge_strength: regularisation of ridge; see `Ridge`.
        """
        self.ridge = Ridge(taps_width, ridge_strength)
        self.means = ClassMeans(feature_width)
        self.rehearsed = np.zeros((0, feature_width), np.float32)
        self.unknown_below = -1.0
        self.pending: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def rehearsed(self) -> np.ndarray:
        """(K, D) float32, weight of the rehearsed cosine classifier; see the class."""
        return self._rehearsed

    @rehearsed.setter
    def rehearsed(self, weight: np.ndarray) -> None:
        self._rehearsed, self._directions = weight, unit(weight)
        self._is_rehearsed = np.abs(weight).sum(axis=1) > 0

    @property
    def n_classes(self) -> int:
        """Number of classes that it can answer with."""
        return len(self.means.counts)

    def draft(self) -> CombinedClassifier:
        """Return a classifier with class means of its own that shares all else with this one."""
        other = copy.copy(self)
        other.means = self.means.copy()
        return other

    def copy(self) -> CombinedClassifier:
        """Return an independent copy. Ridge must not be learning on another thread meanwhile."""
        other = self.draft()
        other.ridge, other.pending = copy.deepcopy((self.ridge, self.pending))
        other.rehearsed = self.rehearsed.copy()
        return other

    def learn_many(self, taps: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch.

        Args:
            taps: (n, T) float32.
            features: (n, D) float32, adapted.
            labels: (n,) class indices.
        """
        self.means.learn_many(features, labels)
        self.learn_ridge(taps, labels)

    def learn_ridge(self, taps: np.ndarray, labels: np.ndarray) -> None:
        """Queue a batch (n, T) for ridge, and refit ridge once enough samples are queued."""
        self.pending.append((taps, labels))
        n_pending = sum(len(y) for _, y in self.pending)
        if n_pending >= min(_MAX_PENDING, self.ridge.counts.sum() / 8):
            self.solve(_REFIT_GROWTH)

    def solve(self, growth: float = 1.0) -> None:
        """Let ridge learn the queued batches and refit; see `Ridge.solve`."""
        if self.pending:
            taps, labels = (np.concatenate(part) for part in zip(*self.pending, strict=True))
            self.pending.clear()
            self.ridge.learn_many(taps, labels)
        self.ridge.solve(growth)

    def replace_means(self, means: ClassMeans, unknown_below: float) -> None:
        """Replace the class means by the result of `fit_means`, keeping classes it lacks."""
        means.copy_missing(self.means)
        self.means, self.unknown_below = means, unknown_below

    def answer_many(
        self, taps: np.ndarray, features: np.ndarray, cosines: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classify a batch.

        Args:
            taps: (n, T) float32.
            features: (n, D) float32, adapted.
            cosines: (n, K) similarities to the class means at the time of each frame, -1 for a
                class not seen by then. The default compares with the current means.

        Returns:
            probabilities: (n, K) float32; rows sum to one, or to zero if no class is known.
            similarity: (n,) float32, largest cosine similarity to a class mean.
        """
        if cosines is None:
            cosines = self.means.scores_many(features)
        seen = cosines > -1.0  # (n, K)
        total = by_means = _standardised(cosines, seen)  # (n, K)
        if self.means.counts.sum() >= _MIN_SAMPLES:
            ridge = self.ridge.fitted  # read once: another thread may replace it
            fast = _blend(by_means, ridge.scores(taps), _has_enough(ridge.counts))  # (n, K)
            rehearsed = unit(features) @ self._directions.T  # (n, K)
            slow = _blend(by_means, rehearsed, self._is_rehearsed)  # (n, K)
            total = fast + slow + _MEANS_WEIGHT * by_means
        total = np.where(seen, _SHARPNESS * total, -np.inf)
        highest = total.max(axis=1, keepdims=True, initial=-np.inf)
        odds = np.exp(total - np.where(np.isfinite(highest), highest, 0.0))
        probabilities = odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-30)
        return probabilities.astype(np.float32), cosines.max(axis=1, initial=-1.0)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that answering needs.

        Learning also needs `ridge.learning_arrays`.
        """
        self.solve()
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
        """Restore a saved classifier.

        Args:
            arrays: the result of `to_arrays`.
            learning: the result of `ridge.learning_arrays`. Without it ridge can only score.

        Raises:
            StateError: the arrays do not fit these widths.
        """
        ridge = {name: arrays[f"ridge.{name}"] for name in ("weights", "mean", "scale", "counts")}
        self.ridge.restore(ridge, learning)
        self.means.sums, self.means.counts = arrays["means.sums"], arrays["means.counts"]
        self.rehearsed = arrays["rehearsed"]
        self.unknown_below = float(arrays["unknown_below"][0])


def _has_enough(counts: np.ndarray) -> np.ndarray:
    """Return for each class (K,) whether ridge has seen enough of its samples to be fair to it.

    The average class size counts too: if all classes are small, none is at a disadvantage.
    """
    share_of_average = _MIN_CLASS_SHARE * counts.sum() / max(len(counts), 1)
    return counts >= max(1.0, min(_MIN_CLASS_SAMPLES, share_of_average))


def _blend(scores: np.ndarray, better: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replace `scores` by `better`, standardised, for the classes that `better` knows.

    The other classes keep their score relative to the winner of `better`: such a class wins where
    `scores` ranked it above that winner.

    Args:
        scores: (n, K) standardised.
        better: (n, k), k <= K, not standardised.
        known: (k,) bool, the classes that `better` knows.

    Returns:
        (n, K).
    """
    if known.sum() < 2:
        return scores
    mixed, at = scores.copy(), np.arange(len(scores))
    better = _standardised(better, np.broadcast_to(known, better.shape))  # (n, k)
    winner = np.where(known, better, -np.inf).argmax(axis=1)  # (n,)
    mixed += (better[at, winner] - scores[at, winner])[:, None]
    mixed[:, : len(known)][:, known] = better[:, known]
    return mixed


def _standardised(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Shift and scale each row (n, K) by its mean and spread over the classes seen (n, K)."""
    n_seen = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    centred = scores - (scores * seen).sum(axis=1, keepdims=True) / n_seen
    spread = np.sqrt((centred**2 * seen).sum(axis=1, keepdims=True) / n_seen)
    return np.asarray(centred / np.maximum(spread, 1e-6))
