"""Publish gate: the decision whether a candidate may answer. NumPy only.

The current version and the candidate answer the same held-out latents. Answers flip both ways by
chance, so the number that may be lost is chosen such that a harmless update is rarely refused. The
probability of that is part of the verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CHURN = 0.03  # share of held-out labels that a harmless update flips, each way
THRESHOLD = 0.03  # share that may always be lost
CLASS_THRESHOLD = 0.15  # the same, of one class
_FALSE_ALARM = 0.01
_MIN_LABELS = 8  # held-out labels of a class, to decide about it separately


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision about a candidate.

    Attributes:
        passed: whether the candidate may answer.
        reason: why, in one line.
        n: number of held-out labels.
        before: share of them that the current version answers correctly.
        after: share that the candidate answers correctly.
        false_alarm: probability that a candidate as good as the current version is refused.
    """

    passed: bool
    reason: str
    n: int
    before: float
    after: float
    false_alarm: float


def decide(truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> Verdict:
    """Decide whether a candidate may answer.

    Args:
        truth: (n,) class indices of the held-out labels.
        before: (n,) class indices that the current version answers.
        after: (n,) class indices that the candidate answers.
    """
    n = len(truth)
    if n == 0:
        return Verdict(
            passed=True, reason="nothing held out yet", n=0, before=0.0, after=0.0, false_alarm=0.0
        )
    lost = (before == truth).astype(int) - (after == truth).astype(int)
    allowed = allowed_losses(n)
    result = f"{max(int(lost.sum()), 0)} of {n} held-out labels lost, {allowed} allowed"
    reason = result if lost.sum() > allowed else _lost_class(truth, lost)
    return Verdict(
        passed=not reason,
        reason=reason or result,
        n=n,
        before=float((before == truth).mean()),
        after=float((after == truth).mean()),
        false_alarm=false_alarm(n, allowed),
    )


def _lost_class(truth: np.ndarray, lost: np.ndarray) -> str:
    """Return why a single class forbids publishing. Empty if none does."""
    classes, counts = np.unique(truth, return_counts=True)
    large = [k for k, count in zip(classes, counts, strict=True) if count >= _MIN_LABELS]
    for k in large:
        own = lost[truth == k]
        limit = allowed_losses(len(own), CLASS_THRESHOLD, _FALSE_ALARM / len(large))
        if own.sum() > limit:
            return f"{own.sum()} of {len(own)} held-out labels of class {k} lost, {limit} allowed"
    return ""


def allowed_losses(n: int, threshold: float = THRESHOLD, alarm: float = _FALSE_ALARM) -> int:
    """Return how many of `n` held-out labels may be lost.

    This is the share `threshold`, or more if a harmless update would else be refused with a
    probability above `alarm`.
    """
    allowed = math.floor(threshold * n)
    while false_alarm(n, allowed) > alarm:
        allowed += 1
    return allowed


def false_alarm(n: int, allowed: int, churn: float = CHURN) -> float:
    """Return the probability that a harmless update loses more than `allowed` of `n`, net.

    Each held-out label turns wrong with probability `churn`, and right with the same probability.
    """
    odds = np.array([churn, 1 - 2 * churn, churn])
    net, power = np.ones(1), odds
    while n:  # the n-fold convolution, by squaring
        if n & 1:
            net = np.convolve(net, power)
        power, n = np.convolve(power, power), n >> 1
    middle = len(net) // 2
    return float(net[middle + allowed + 1 :].sum()) if allowed < middle else 0.0
