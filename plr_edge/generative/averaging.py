"""RunningAverage: weights averaged over the last steps of each phase of training.

Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI
2018, without the cyclic learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import torch


class RunningAverage:
    """Averages weights over the last share of each phase, and then sets them to the average.

    Attributes:
        macs: multiply-adds spent so far: one for each value and averaged step.
    """

    def __init__(self, share: float) -> None:
        """Start between two phases.

        Args:
            share: share of a phase that is averaged over, 0..1. 0 for no averages.
        """
        self.share, self.macs = share, 0
        self._ends: list[int] = []
        self._start, self._n_steps, self._n_averaged = 0, 0, 0
        self._means: list[torch.Tensor] = []

    def begin(self, lengths: Sequence[int]) -> None:
        """Begin phases of these numbers of steps, one after another."""
        self._ends = [end for end, n in zip(accumulate(lengths), lengths, strict=True) if n]
        self._start = self._n_steps = self._n_averaged = 0

    @torch.no_grad()
    def step(self, weights: Iterable[torch.Tensor]) -> None:
        """Follow a training step; at the end of a phase, set the weights to their average."""
        self._n_steps += 1
        if not self.share or not self._ends:
            return
        end = self._ends[0]
        weights = list(weights)
        if self._n_steps > end - self.share * (end - self._start):
            if self._n_averaged == 0:
                self._means = [weight.clone() for weight in weights]
            self._n_averaged += 1
            for mean, weight in zip(self._means, weights, strict=True):
                mean.lerp_(weight, 1 / self._n_averaged)
            self.macs += sum(weight.numel() for weight in weights)
        if self._n_steps == end:
            for mean, weight in zip(self._means, weights, strict=True):
                weight.copy_(mean)
            self._ends.pop(0)
            self._start, self._n_averaged = end, 0
