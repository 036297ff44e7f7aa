"""CombinedClassifier: the classifier that perception answers with. NumPy only.

A label answers at once, and well after a while:

- At once: ridge over the *taps*, with class means over the adapted feature. Taps are intermediate
  features: pooled outputs of frozen blocks that the frozen part returns with the latent. The frozen
  part never changes, so they never go stale, and ridge is exact and forgets nothing.
- After each fit: the *mix* of closed-form classifiers over taps and exported feature, whose weights
  were fitted to held-out samples. It takes over for the classes that it knows.

The rehearsed cosine classifier, over the adapted feature, is added to either.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from plr_edge.classifiers import blending
from plr_edge.classifiers.blending import Answers
from plr_edge.classifiers.class_means import ClassMeans, unit
from plr_edge.classifiers.mix import MIN_SAMPLES, Mix
from plr_edge.classifiers.mix_learner import MixLearner
from plr_edge.classifiers.mix_weights import standardised
from plr_edge.classifiers.ridge import Ridge
from plr_edge.classifiers.unknown_threshold import is_unknown
from plr_edge.tensors import with_prefix, without_prefix

_MAX_PENDING = 64  # samples that ridge may lag behind; class means never lag
_REFIT_GROWTH = 1.25  # ridge is refitted once it has stored so many times more samples
_MEANS_WEIGHT = 0.25  # weight of class means beside the fast and slow scores, which have 1
_SHARPNESS = 2.0  # inverse temperature of the softmax before the first mix is fitted


class CombinedClassifier:
    """Ridge over taps, plus a rehearsed cosine classifier and class means over adapted features.

    Attributes:
        ridge: the fast classifier, over taps (T,).
        means: class means over adapted features (D,).
        rehearsed: (K, D) float32, weight of the rehearsed cosine classifier; a row of zeros marks
            a class that it does not know.
        beside_rehearsed: factor of the mix, and weight of the rehearsed classifier beside it.
        unknown_below: similarity below which a frame is unknown where the mix does not decide.
        pending: batches of taps (n, T) and labels (n,) that ridge has not learned yet.
        mixing: learns the mix.
    """

    def __init__(
        self,
        taps_width: int,
        feature_width: int,
        ridge_strength: float | None = None,
        *,
        tap_shapes: Sequence[Sequence[int]] = (),
        false_unknown: float = 0.01,
    ) -> None:
        """Start without classes.

        Args:
            taps_width: T, the length of the taps.
            feature_width: D, the length of an adapted feature.
            ridge_strength: regularisation of ridge; see `Ridge`.
            tap_shapes: shape of each tap, (C, rows, columns) or (C,). Unknown by default.
            false_unknown: share of the frames of known classes that may be called unknown, 0..1.
        """
        self.ridge = Ridge(taps_width, ridge_strength)
        self.mixing = MixLearner(taps_width, feature_width, tap_shapes, false_unknown)
        self.beside_rehearsed = 1.0, 0.0
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
    def mix(self) -> Mix | None:
        """The mix that answers. None before the first fit."""
        return self.mixing.mix

    @property
    def feature_width(self) -> int:
        """D, the length of an adapted feature."""
        return int(self.means.sums.shape[1])

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
        """Return an independent copy. Nothing may be learning on another thread meanwhile."""
        other = self.draft()
        other.ridge, other.pending = copy.deepcopy((self.ridge, self.pending))
        other.mixing = self.mixing.copy()
        other.rehearsed = self.rehearsed.copy()
        return other

    def learn_many(
        self,
        taps: np.ndarray,
        features: np.ndarray,
        labels: np.ndarray,
        exported: np.ndarray | None = None,
    ) -> None:
        """Learn a batch.

        Args:
            taps: (n, T) float32.
            features: (n, D) float32, adapted.
            labels: (n,) class indices.
            exported: (n, D) float32 features of the network as exported. `features` by default.
        """
        self.means.learn_many(features, labels)
        self.learn_statistics(taps, features if exported is None else exported, labels)

    def learn_statistics(self, taps: np.ndarray, exported: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch but for the class means, and refit ridge once enough samples are queued.

        Args:
            taps: (n, T) float32.
            exported: (n, D) float32 features of the network as exported.
            labels: (n,) class indices.
        """
        self.mixing.learn_many(taps, exported, labels)
        self.pending.append((taps, labels))
        n_pending = sum(len(y) for _, y in self.pending)
        if n_pending >= min(_MAX_PENDING, self.ridge.counts.sum() / 8):
            self.solve(_REFIT_GROWTH)

    def is_fit_due(self, *, final: bool) -> bool:
        """Return whether the mix is to be fitted; see `MixLearner.is_due`.

        Never, if a state of an earlier release holds ridge but not the moments of its samples.
        """
        n_queued = sum(len(y) for _, y in self.pending)
        missing = self.ridge.counts.sum() + n_queued - self.mixing.moments.n
        return not missing and self.mixing.is_due(final=final)

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
        self,
        taps: np.ndarray,
        features: np.ndarray,
        cosines: np.ndarray | None = None,
        exported: np.ndarray | None = None,
    ) -> Answers:
        """Classify a batch.

        Args:
            taps: (n, T) float32.
            features: (n, D) float32, adapted.
            cosines: (n, K) similarities to the class means at the time of each frame, -1 for a
                class not seen by then. The default compares with the current means.
            exported: (n, D) float32 features of the network as exported. `features` by default.
        """
        if cosines is None:
            cosines = self.means.scores_many(features)
        seen = cosines > -1.0  # (n, K)
        similarity = cosines.max(axis=1, initial=-1.0)
        unknown = is_unknown(similarity, self.unknown_below)
        mix, known = self.mix, seen[:0]  # read once: another thread may replace it
        if mix is not None and cosines.shape[1] > mix.classes.max():
            known = blending.still_known(mix.classes, mix.counts, self.ridge.fitted.counts)
        whole = 1 < known.sum() == cosines.shape[1]  # the mix answers for every class
        total = cosines if whole else _SHARPNESS * self._at_once(taps, features, cosines, seen)
        if mix is not None and known.any():
            logits, strange = self._mixed(mix, taps, features, exported)
            total = blending.taken_over(total, logits[:, known], mix.classes[known])
            if mix.unknown is not None and mix.unknown.decides:
                best = np.where(seen, total, -np.inf).argmax(axis=1)
                unknown = np.where(np.isin(best, mix.classes[known]), strange, unknown)
        probabilities = blending.softmax_over(total, seen)
        return Answers(probabilities, similarity, np.asarray(unknown, bool))

    def mix_and_rehearsed(
        self, taps: np.ndarray, features: np.ndarray, exported: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits of the mix and standardised scores of the rehearsed classifier.

        Args:
            taps: (n, T) float32.
            features: (n, D) float32, adapted.
            exported: (n, D) float32.

        Returns:
            Both (n, k) for the classes of the mix.
        """
        assert self.mix is not None
        logits, _ = self.mix.answer_many(taps, exported, self.mixing.mirror)
        return logits, self._rehearsed_scores(self.mix, features)

    def _mixed(
        self, mix: Mix, taps: np.ndarray, features: np.ndarray, exported: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (n, k) of the classes of the mix, and whether frames are unknown (n,)."""
        logits, unknown = mix.answer_many(
            taps, features if exported is None else exported, self.mixing.mirror
        )
        factor, weight = self.beside_rehearsed
        if weight > 0:
            logits = factor * logits + weight * self._rehearsed_scores(mix, features)
        return logits, unknown

    def _rehearsed_scores(self, mix: Mix, features: np.ndarray) -> np.ndarray:
        """Return standardised scores (n, k) of the rehearsed classifier for classes of the mix."""
        by_means = self.means.scores_many(features)  # (n, K)
        by_means = blending.standardised_over(by_means, by_means > -1.0)
        known = np.pad(self._is_rehearsed, (0, by_means.shape[1] - len(self._is_rehearsed)))
        scores = np.zeros_like(by_means)
        scores[:, : len(self._directions)] = unit(features) @ self._directions.T
        return standardised(blending.blend(by_means, scores, known)[:, mix.classes])

    def _at_once(
        self, taps: np.ndarray, features: np.ndarray, cosines: np.ndarray, seen: np.ndarray
    ) -> np.ndarray:
        """Return the scores (n, K) of ridge, the rehearsed classifier and class means together."""
        total = by_means = blending.standardised_over(cosines, seen)  # (n, K)
        if self.means.counts.sum() >= MIN_SAMPLES:
            ridge = self.ridge.fitted  # read once: another thread may replace it
            enough = blending.has_enough(ridge.counts)
            fast = blending.blend(by_means, ridge.scores(taps), enough)  # (n, K)
            rehearsed = unit(features) @ self._directions.T  # (n, K)
            slow = blending.blend(by_means, rehearsed, self._is_rehearsed)  # (n, K)
            total = fast + slow + _MEANS_WEIGHT * by_means
        return total

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that answering needs. Learning also needs `learning_arrays`."""
        self.solve()
        mix = {} if self.mix is None else self.mix.to_arrays()
        return {
            **with_prefix("mix", mix),
            "beside_rehearsed": np.array(self.beside_rehearsed, np.float32),
            **with_prefix("ridge", self.ridge.to_arrays()),
            "means.sums": self.means.sums,
            "means.counts": self.means.counts,
            "rehearsed": self.rehearsed,
            "unknown_below": np.array([self.unknown_below], np.float32),
        }

    def learning_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that further learning needs in addition to `to_arrays`."""
        return {
            **with_prefix("ridge", self.ridge.learning_arrays()),
            **self.mixing.to_arrays(),
        }

    def restore(
        self, arrays: Mapping[str, np.ndarray], learning: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Restore a saved classifier.

        Args:
            arrays: the result of `to_arrays`. Earlier releases wrote no mix.
            learning: the result of `learning_arrays`. Without it the classifier can only answer.

        Raises:
            StateError: the arrays do not fit these widths.
        """
        ridge = {name: arrays[f"ridge.{name}"] for name in ("weights", "mean", "scale", "counts")}
        self.ridge.restore(ridge, None if learning is None else without_prefix("ridge", learning))
        self.means.sums, self.means.counts = arrays["means.sums"], arrays["means.counts"]
        self.rehearsed = arrays["rehearsed"]
        self.unknown_below = float(arrays["unknown_below"][0])
        if "beside_rehearsed" in arrays:
            self.beside_rehearsed = tuple(arrays["beside_rehearsed"].tolist())
        mix = without_prefix("mix", arrays)
        self.mixing.mix = Mix.from_arrays(mix) if mix else None
        if learning is not None:
            self.mixing.restore(learning)
