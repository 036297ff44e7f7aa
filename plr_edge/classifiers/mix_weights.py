"""Weights of a mix: how much each of several classifiers counts, fitted to held-out samples.

NumPy only. The weights are those of a softmax regression on standardised scores. They are at least
0 and shrink towards a prior, so that few samples cannot lead them astray.
"""

from __future__ import annotations

import numpy as np

_PENALTY = 0.01  # on the squared distance from the scaled prior, in units of its scale
_SCALE_PENALTY = 1e-3  # towards the scale 2
_MIN_SCALE, _USUAL_SCALE = 0.05, 2.0
_ROUNDS, _STEPS = 8, 40


def standardised(scores: np.ndarray) -> np.ndarray:
    """Shift and scale each row of scores (n, K) to mean 0 and spread 1, float32."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    return np.asarray(centred / np.maximum(spread, 1e-6), dtype=np.float32)


def fit_weights(scores: np.ndarray, labels: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Fit the weights of P classifiers.

    The scale of the prior is fitted too, so that a softmax of the weighted sum is a probability.

    Args:
        scores: (P, n, K) standardised scores of held-out samples.
        labels: (n,) their classes as indices of the K.
        prior: (P,) weights in the absence of samples, up to a factor.

    Returns:
        (P,) float32 weights, at least 0.
    """
    scale, weights = 1.0, np.array(prior, np.float64)
    for _ in range(_ROUNDS):
        scaled = _fit_scale(np.tensordot(weights / scale, scores, 1), labels, scale)
        weights = weights / scale * scaled
        before, scale = weights, scaled
        weights = _fit(scores, labels, scale * prior, _PENALTY / scale**2, weights)
        if np.abs(weights - before).max() < 1e-3:
            break
        scale = max(float(weights.sum() / prior.sum()), _MIN_SCALE)
    return weights.astype(np.float32)  # as a state holds them


def fit_extra_weight(
    logits: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Fit the weight of one more classifier beside a mix, at least 0, shrunk towards 0.

    Args:
        logits: (n, K) of the mix, for samples that neither has learned.
        scores: (n, K) standardised scores of the other classifier.
        labels: (n,) classes as indices of the K.

    Returns:
        factor: what the logits of the mix are multiplied with, at most 1: its temperature was
            fitted to the ends of the classes, and these samples may lie closer to learned ones.
        weight: weight of the other classifier.
    """
    usual = np.array([1.0, 0.0])
    factor, weight = _fit(np.stack([logits, scores]), labels, usual, _PENALTY, usual)
    if weight <= 0:
        return 1.0, 0.0
    return float(np.float32(min(factor, 1.0))), float(np.float32(weight))  # as a state holds them


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row of logits (n, K)."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _fit_scale(logits: np.ndarray, labels: np.ndarray, scale: float) -> float:
    """Return the factor of logits (n, K) under which their softmax fits the labels best."""
    own = logits[np.arange(len(labels)), labels]
    for _ in range(_STEPS):
        p = probabilities_of(scale * logits)
        mean = (p * logits).sum(axis=1)
        gradient = (mean - own).mean() + _SCALE_PENALTY * (scale - _USUAL_SCALE)
        curvature = ((p * logits**2).sum(axis=1) - mean**2).mean() + _SCALE_PENALTY
        updated = float(np.clip(scale - gradient / curvature, scale / 2, scale * 2))
        updated = max(updated, _MIN_SCALE)
        if abs(updated - scale) < 1e-3 * scale:
            return updated
        scale = updated
    return scale


def _fit(
    scores: np.ndarray, labels: np.ndarray, prior: np.ndarray, penalty: float, start: np.ndarray
) -> np.ndarray:
    """Minimise the penalised loss over weights of at least 0 by projected Newton steps."""
    weights = start
    for _ in range(_STEPS):
        gradient, curvature = _slope(scores, labels, weights)
        gradient = gradient + penalty * (weights - prior)
        curvature = curvature + penalty * np.eye(len(prior))
        free = ~((weights <= 0) & (gradient > 0))
        step = np.zeros(len(prior))
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        updated = np.maximum(weights - step, 0.0)
        if np.abs(updated - weights).max() < 1e-4:
            return updated
        weights = updated
    return weights


def _slope(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient (P,) and Hessian (P, P) of the mean log loss at weights (P,)."""
    n = len(labels)
    p = probabilities_of(np.tensordot(weights, scores, 1))  # (n, K)
    expected = (scores * p).sum(axis=2)  # (P, n)
    gradient = (expected - scores[:, np.arange(n), labels]).mean(axis=1)
    apart = scores - expected[:, :, None]  # (P, n, K)
    weighted = (apart * p).reshape(len(weights), -1)
    return gradient, weighted @ apart.reshape(len(weights), -1).T / n
