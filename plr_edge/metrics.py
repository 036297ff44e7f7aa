"""Accuracy matrix, forgetting and backward transfer; Pareto fronts. NumPy only.

Source: Lopez-Paz and Ranzato, "Gradient Episodic Memory", NeurIPS 2017, section 2, for the matrix
and backward transfer; Chaudhry et al., "Riemannian Walk", ECCV 2018, section 3, for forgetting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy_of(labels: list[str], predicted: list[str]) -> float:
    """Return the share of equal entries; NaN where there are none."""
    right = [float(a == b) for a, b in zip(labels, predicted, strict=True)]
    return float(np.mean(right or [np.nan]))


def per_class_accuracy(labels: list[str], predicted: list[str]) -> dict[str, float]:
    """Return accuracy by class, in the order in which classes first appear."""
    right: dict[str, list[bool]] = {}
    for label, answer in zip(labels, predicted, strict=True):
        right.setdefault(label, []).append(label == answer)
    return {label: float(np.mean(answers)) for label, answers in right.items()}


def forgetting(matrix: np.ndarray) -> float:
    """Return the mean fall from each experience's best accuracy to its last one.

    Args:
        matrix: (n, n); row i holds accuracies after experience i, column j those on experience j;
            NaN above the diagonal, and in the column of an experience that nothing is tested of.

    Returns:
        0 where nothing was forgotten; NaN for a single experience.
    """
    tested = _tested(matrix)
    if not len(tested):
        return float("nan")
    best = np.nanmax(matrix[:-1, tested], axis=0)
    return float(np.mean(best - matrix[-1, tested]))


def backward_transfer(matrix: np.ndarray) -> float:
    """Return the mean change from just after each experience to the end; below 0 is forgetting."""
    tested = _tested(matrix)
    if not len(tested):
        return float("nan")
    return float(np.mean(matrix[-1, tested] - np.diag(matrix)[tested]))


def _tested(matrix: np.ndarray) -> np.ndarray:
    """Return the experiences before the last that accuracies are known of."""
    return np.flatnonzero(~np.isnan(matrix[-1, :-1]))


def running_accuracy(
    labels: Sequence[int], predicted: Sequence[int], window: int = 50
) -> np.ndarray:
    """Return prequential accuracy over the last `window` frames at each frame, (n,) float64."""
    right = np.equal(labels, predicted).astype(float)
    total = np.concatenate([[0.0], np.cumsum(right)])
    stops = np.arange(1, len(right) + 1)
    starts = np.maximum(0, stops - window)
    return np.asarray((total[stops] - total[starts]) / (stops - starts))


def pareto(points: list[tuple[float, float]]) -> list[bool]:
    """Say of each (cost, accuracy) that no other is as cheap and better, or cheaper, as good."""
    return [
        not any((c <= cost and a > accuracy) or (c < cost and a >= accuracy) for c, a in points)
        for cost, accuracy in points
    ]
