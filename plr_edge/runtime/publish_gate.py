"""Canary gate: whether a new generation may answer. NumPy only; knows answers, not networks.

A fixed set of held-out latents is answered by the old and by the new generation. Answers go both
ways by chance; what may be lost is chosen so that a harmless update is seldom refused, and the odds
of that are stated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CHURN = 0.03  # share of canaries that a harmless update flips, each way
THRESHOLD = 0.03  # share that may be lost at any rate
CLASS_THRESHOLD = 0.15
_FALSE_ALARM = 0.01
_FEW = 8  # canaries of a class below which it is not judged by itself


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says.

    Attributes:
        passed: the update may be published.
        reason: in one line.
        n: canaries.
        before: share of them answered rightly by the generation that answers now.
        after: the same, by the new one.
        false_alarm: odds that an update as good as the old one is refused.
    """

    passed: bool
    reason: str
    n: int
    before: float
    after: float
    false_alarm: float


def false_alarm(n: int, allowed: int, churn: float = CHURN) -> float:
    """Return the odds that a harmless update loses more than `allowed` of `n` canaries, net.

    Each canary turns wrong with odds `churn` and right with the same odds.
    """
    odds = np.array([churn, 1 - 2 * churn, churn])
    net, power = np.ones(1), odds
    while n:  # the n-fold convolution, by squaring
        if n & 1:
            net = np.convolve(net, power)
        power, n = np.convolve(power, power), n >> 1
    middle = len(net) // 2
    return float(net[middle + allowed + 1 :].sum()) if allowed < middle else 0.0


def allowed_losses(n: int, threshold: float = THRESHOLD, alarm: float = _FALSE_ALARM) -> int:
    """Return how many canaries of `n` may be lost: the threshold, or more where chance needs it."""
    allowed = math.floor(threshold * n)
    while false_alarm(n, allowed) > alarm:
        allowed += 1
    return allowed


def judge(truth: np.ndarray, before: np.ndarray, after: np.ndarray) -> Verdict:
    """Compare the answers (n,) of two generations to the true class indices (n,)."""
    n = len(truth)
    if n == 0:
        return Verdict(
            passed=True, reason="no canary yet", n=0, before=0.0, after=0.0, false_alarm=0.0
        )
    lost = (before == truth).astype(int) - (after == truth).astype(int)
    allowed = allowed_losses(n)
    classes, counts = np.unique(truth, return_counts=True)
    judged = [k for k, count in zip(classes, counts, strict=True) if count >= _FEW]
    reason = ""
    if lost.sum() > allowed:
        reason = f"{lost.sum()} of {n} canaries lost, {allowed} allowed"
    for k in judged:
        own = lost[truth == k]
        limit = allowed_losses(len(own), CLASS_THRESHOLD, _FALSE_ALARM / len(judged))
        if not reason and own.sum() > limit:
            reason = f"{own.sum()} of {len(own)} canaries of class {k} lost, {limit} allowed"
    return Verdict(
        passed=not reason,
        reason=reason or f"{max(int(lost.sum()), 0)} of {n} canaries lost, {allowed} allowed",
        n=n,
        before=float((before == truth).mean()),
        after=float((after == truth).mean()),
        false_alarm=false_alarm(n, allowed),
    )
