"""Accuracy, forgetting, backward transfer and Pareto fronts. NumPy only.

Source: Lopez-Paz and Ranzato, "Gradient Episodic Memory", NeurIPS 2017, section 2, for the matrix
and backward transfer; Chaudhry et al., "Riemannian Walk", ECCV 2018, section 3, for forgetting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy_of(labels: list[str], predicted: list[str]) -> float:
    """Return the share of equal entries; NaN if there are none.

    Example:
        >>> accuracy_of(["cup", "pen"], ["cup", "cup"])
        0.5
    """
    right = [float(a == b) for a, b in zip(labels, predicted, strict=True)]
    return float(np.mean(right or [np.nan]))


def per_class_accuracy(labels: list[str], predicted: list[str]) -> dict[str, float]:
    """Return accuracy by class, in the order in which classes first appear."""
    right: dict[str, list[bool]] = {}
    for label, answer in zip(labels, predicted, strict=True):
        right.setdefault(label, []).append(label == answer)
    return {label: float(np.mean(answers)) for label, answers in right.items()}


def forgetting(matrix: np.ndarray) -> float:
    """Return the mean drop from each experience's best accuracy to its last one.

    Args:
        matrix: (n, n) accuracies; row i after experience i, column j on experience j. NaN above
            the diagonal, and in the column of an experience without test data.

    Returns:
        0 if nothing was forgotten; NaN for a single experience.

    Example:
        >>> nan = float("nan")
        >>> round(forgetting(np.array([[0.9, nan], [0.6, 0.8]])), 3)
        0.3
    """
    tested = _tested(matrix)
    if not len(tested):
        return float("nan")
    best = np.nanmax(matrix[:-1, tested], axis=0)
    return float(np.mean(best - matrix[-1, tested]))


def backward_transfer(matrix: np.ndarray) -> float:
    """Return the mean change of accuracy from just after each experience to the end.

    Args:
        matrix: see `forgetting`.

    Returns:
        Below 0 if experiences were forgotten; NaN for a single experience.
    """
    tested = _tested(matrix)
    if not len(tested):
        return float("nan")
    return float(np.mean(matrix[-1, tested] - np.diag(matrix)[tested]))


def _tested(matrix: np.ndarray) -> np.ndarray:
    """Return the indices (m,) of the experiences before the last with known accuracies."""
    return np.flatnonzero(~np.isnan(matrix[-1, :-1]))


def running_accuracy(
    labels: Sequence[int], predicted: Sequence[int], window: int = 50
) -> np.ndarray:
    """Return the prequential accuracy over the last `window` frames, at each frame.

    Args:
        labels: (n,) class indices.
        predicted: (n,) predicted class indices.
        window: number of frames to average over.

    Returns:
        (n,) float64.
    """
    right = np.equal(labels, predicted).astype(float)
    total = np.concatenate([[0.0], np.cumsum(right)])
    stops = np.arange(1, len(right) + 1)
    starts = np.maximum(0, stops - window)
    return np.asarray((total[stops] - total[starts]) / (stops - starts))


def pareto(points: list[tuple[float, float]]) -> list[bool]:
    """Return for each (cost, accuracy) whether it is on the Pareto front.

    A point is on it if no other is better at no higher cost, or cheaper at no lower accuracy.

    Example:
        >>> pareto([(1.0, 0.5), (2.0, 0.9), (3.0, 0.8)])
        [True, True, False]
    """
    return [
        not any((c <= cost and a > accuracy) or (c < cost and a >= accuracy) for c, a in points)
        for cost, accuracy in points
    ]
