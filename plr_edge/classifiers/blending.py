"""Blending: the scores of classifiers that know different classes, in one row. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MIN_CLASS_SAMPLES = 15  # ridge needs this many of a class ...
_MAX_GROWTH = 1.25  # of the samples of a class since a mix was fitted, for it to answer
_MIN_CLASS_SHARE = 0.75  # ... or this share of the average class size, if that is smaller


class Answers(NamedTuple):
    """Answers to n frames.

    Attributes:
        probabilities: (n, K) float32. Rows sum to one, or to zero if no class is known.
        similarity: (n,) float32, largest cosine similarity to a class mean.
        unknown: (n,) bool, whether a frame resembles no class.
    """

    probabilities: np.ndarray
    similarity: np.ndarray
    unknown: np.ndarray


def still_known(classes: np.ndarray, fitted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (k,) bool, the classes of a mix of which it has seen most samples.

    Args:
        classes: (k,) class indices of the mix.
        fitted: (k,) samples that it was solved for.
        counts: (K,) samples of each class now.
    """
    if len(counts) <= classes.max():
        return np.zeros(len(classes), bool)
    return np.asarray(counts[classes] <= _MAX_GROWTH * fitted)


def taken_over(total: np.ndarray, logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Replace the scores of the classes of a mix by its logits.

    Another class keeps its score relative to the best of these, in units of the spread of either.
    Fewer than two classes replace nothing.

    Args:
        total: (n, K) scores of all classes.
        logits: (n, k) of the mix.
        classes: (k,) the classes of the mix.
    """
    out, at = np.array(total, np.float32), np.arange(len(total))
    if len(classes) < 2:
        return out
    if out.shape[1] > len(classes):
        winner = logits.argmax(axis=1)
        ratio = logits.std(axis=1) / np.maximum(total[:, classes].std(axis=1), 1e-6)
        apart = total - total[at, classes[winner]][:, None]
        out = logits[at, winner][:, None] + apart * ratio[:, None]
    out[:, classes] = logits
    return out


def has_enough(counts: np.ndarray) -> np.ndarray:
    """Return for each class (K,) whether ridge has seen enough of its samples to be fair to it.

    The average class size counts too: if all classes are small, none is at a disadvantage.
    """
    share_of_average = _MIN_CLASS_SHARE * counts.sum() / max(len(counts), 1)
    return counts >= max(1.0, min(_MIN_CLASS_SAMPLES, share_of_average))


def blend(scores: np.ndarray, better: np.ndarray, known: np.ndarray) -> np.ndarray:
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
    better = standardised_over(better, np.broadcast_to(known, better.shape))  # (n, k)
    winner = np.where(known, better, -np.inf).argmax(axis=1)  # (n,)
    mixed += (better[at, winner] - scores[at, winner])[:, None]
    mixed[:, : len(known)][:, known] = better[:, known]
    return mixed


def standardised_over(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Shift and scale each row (n, K) by its mean and spread over the classes seen (n, K)."""
    n_seen = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    centred = scores - (scores * seen).sum(axis=1, keepdims=True) / n_seen
    spread = np.sqrt((centred**2 * seen).sum(axis=1, keepdims=True) / n_seen)
    return np.asarray(centred / np.maximum(spread, 1e-6))


def softmax_over(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the softmax of each row (n, K) over the classes seen (n, K), float32.

    A row without a class is all zeros.
    """
    scores = np.where(seen, scores, -np.inf)
    highest = scores.max(axis=1, keepdims=True, initial=-np.inf)
    odds = np.exp(scores - np.where(np.isfinite(highest), highest, 0.0))
    return np.asarray(odds / np.maximum(odds.sum(axis=1, keepdims=True), 1e-30), dtype=np.float32)
