"""Unknown threshold: the similarity below which a frame resembles no class. NumPy only.

It decides where the mix does not: before the first fit, and for classes taught since the last. It
is fitted to the latent memory with each candidate, and published with it. The rule of the mix is
`UnknownRule` in `mix.py`.
"""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans, unit


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
    means.learn_many(features, labels)
    x = unit(features)
    others = means.sums[labels] - x  # (n, D)
    alone = means.counts[labels] < 2
    similarity = (unit(others) * x).sum(axis=1)[~alone]
    return means, float(np.quantile(similarity, quantile)) if len(similarity) else -1.0
