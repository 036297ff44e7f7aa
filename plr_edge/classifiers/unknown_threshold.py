"""Unknown threshold: when a frame resembles no class. NumPy only.

The mix has a rule that is fitted to held-out samples, `UnknownRule`. Where the mix does not decide,
before its first fit and for classes taught since the last, it is the similarity to the nearest
class mean (`fit_means`), fitted to the latent memory with each candidate and published with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans, unit

_PIECE = 256  # samples at once: all of a latent memory would take a hundred megabytes


@dataclass(frozen=True)
class UnknownRule:
    """When a frame is unknown: by the mean of three scores, in units of the held-out samples.

    The scores are the largest logit of the mix, the relative Mahalanobis distance in the last view,
    and the cosine similarity to the nearest class mean.

    Sources: Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
    ICML 2022 (largest logit); Ren et al., arXiv 2106.09022 (relative Mahalanobis distance).

    Attributes:
        means: (3,) means of the scores of held-out samples.
        spreads: (3,) their spreads.
        held_out: (n,) combined scores of the held-out samples, ascending. The threshold is a
            quantile of these.
        false_unknown: share of the frames of known classes that may be called unknown, 0..1.
    """

    means: np.ndarray
    spreads: np.ndarray
    held_out: np.ndarray
    false_unknown: float

    @classmethod
    def fit(cls, scores: np.ndarray, false_unknown: float) -> UnknownRule:
        """Fit the rule to scores (n, 3) of held-out samples."""
        means: np.ndarray = scores.mean(axis=0, dtype=np.float32)
        spreads: np.ndarray = np.maximum(scores.std(axis=0), 1e-6).astype(np.float32)
        combined: np.ndarray = ((scores - means) / spreads).mean(axis=1).astype(np.float32)
        return cls(means, spreads, np.sort(combined), false_unknown)

    @property
    def decides(self) -> bool:
        """Whether enough samples were held out to tell this share: one of them at least."""
        return len(self.held_out) * self.false_unknown >= 1.0

    @property
    def threshold(self) -> float:
        """Combined score below which a frame is unknown."""
        return float(np.quantile(self.held_out, self.false_unknown))

    def are_unknown(self, scores: np.ndarray) -> np.ndarray:
        """Return (n,) bool for scores (n, 3)."""
        combined = ((scores - self.means) / self.spreads).mean(axis=1)
        return np.asarray(combined < self.threshold)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what `from_arrays` needs."""
        return {
            "means": self.means.astype(np.float32),
            "spreads": self.spreads.astype(np.float32),
            "held_out": self.held_out.astype(np.float32),
            "false_unknown": np.array([self.false_unknown], np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> UnknownRule:
        """Restore what `to_arrays` returned."""
        share = round(float(arrays["false_unknown"][0]), 6)
        return cls(arrays["means"], arrays["spreads"], arrays["held_out"], share)


def unknown_scores(logits: np.ndarray, familiarity: np.ndarray) -> np.ndarray:
    """Return the scores (n, 3) of `UnknownRule`.

    Args:
        logits: (n, K) of the mix.
        familiarity: (n, 2), see `Mix.scores`.
    """
    return np.concatenate([logits.max(axis=1)[:, None], familiarity], axis=1)


def is_unknown(similarity: np.ndarray, unknown_below: float) -> np.ndarray:
    """Return whether frames are unknown, by class means alone: (n,) bool.

    Args:
        similarity: (n,) cosine similarities to the nearest class mean.
        unknown_below: the threshold.
    """
    return np.asarray(similarity < unknown_below)


def fit_means(
    features: np.ndarray, labels: np.ndarray, quantile: float
) -> tuple[ClassMeans, float]:
    """Fit class means and the threshold below which a sample counts as unknown.

    Each sample is compared with the mean of the other samples of its class. The threshold is the
    given quantile of these similarities.

    Args:
        features: (n, D) float32 adapted features.
        labels: (n,) class indices.
        quantile: share of the samples that fall below the threshold, 0..1.

    Returns:
        means: the class means.
        unknown_below: cosine similarity to the nearest mean below which a sample is unknown;
            -1.0 if no class has two samples.
    """
    means = ClassMeans(features.shape[1])
    for rows in _pieces(len(labels)):
        means.learn_many(features[rows], labels[rows])
    return means, threshold_of(means, features, labels, quantile)


def threshold_of(
    means: ClassMeans, features: np.ndarray, labels: np.ndarray, quantile: float
) -> float:
    """Fit the threshold below which a sample counts as unknown.

    Args:
        means: class means that the samples are part of.
        features: (n, D) float32.
        labels: (n,) class indices.
        quantile: share of the samples that fall below the threshold, 0..1.

    Returns:
        Cosine similarity to the nearest mean; -1.0 if no class has two samples.
    """
    similarities = [np.zeros(0, np.float32)]
    for rows in _pieces(len(labels)):
        x, of = unit(features[rows]), labels[rows]
        others = means.sums[of] - x  # (n, D)
        similarities.append((unit(others) * x).sum(axis=1)[means.counts[of] >= 2])
    similarity = np.concatenate(similarities)
    return float(np.quantile(similarity, quantile)) if len(similarity) else -1.0


def _pieces(n: int) -> list[slice]:
    return [slice(i, i + _PIECE) for i in range(0, n, _PIECE)]
