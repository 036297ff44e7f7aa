"""What a classifier does where no sample may be kept: it goes on from statistics. NumPy only."""

from __future__ import annotations

import numpy as np

from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.mix import solved_again
from plr_edge.classifiers.ridge import Ridge


def drop_samples(classifier: CombinedClassifier) -> None:
    """Let ridge go on from the moments of its samples instead of the samples."""
    classifier.solve()
    moments, ridge = classifier.mixing.moments, classifier.ridge
    if not moments.n or ridge.counts.sum() != moments.n:  # no samples, or of an earlier release
        return
    taps = slice(moments.n_taps)
    classes = np.arange(len(moments.counts))
    class_means = np.zeros((len(classes), moments.n_taps), np.float32)
    met = np.flatnonzero(moments.counts > 0)
    class_means[met] = moments.class_means(met)[:, taps]
    ridge.take_over(
        moments.counts, moments.mean[taps], class_means, moments.covariance()[taps, taps]
    )


def without_class(classifier: CombinedClassifier, label: int) -> CombinedClassifier:
    """Return a classifier that knows nothing of a class but its part in the covariance of all.

    The weights of the mix, its temperature and the threshold of `unknown` stay as they are. See
    `Moments.without_class`. The classes after it move up by one.
    """
    classifier.solve()
    other = classifier.copy()
    mixing, old = other.mixing, classifier.mix
    mixing.moments = mixing.moments.without_class(label)
    mixing.tails = mixing.tails.without_class(label)
    mixing.mix = None
    if old is not None and (mixing.moments.counts > 0).sum() >= 2:
        mixing.mix = solved_again(old, mixing.moments, mixing.mirror)
    means = ClassMeans(other.feature_width)
    means.counts = np.delete(other.means.counts, label)
    means.sums = np.delete(other.means.sums, label, axis=0)
    other.means = means
    if label < len(other.rehearsed):
        other.rehearsed = np.delete(other.rehearsed, label, axis=0)
    fresh = Ridge(other.ridge.width, float(other.ridge.strength))
    fresh.recursive_after = other.ridge.recursive_after
    fresh.counts = np.array(mixing.moments.counts)
    other.ridge = fresh
    drop_samples(other)
    return other
