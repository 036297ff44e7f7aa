"""Updates: one optimiser over classifier and generator, with rates that may depend on the block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from plr_edge.generative.averaging import RunningAverage
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.mlp import MlpClassifier

_RATE_POWERS = {"rate": 1, "inverse rate": -1}
_ADAM_MACS = 5  # a value: two for each moment, one for the step


class Updates:
    """Updates the weights by Adam, and averages those of the classifier."""

    def __init__(
        self, classifier: MlpClassifier, generator: nn.Module | None, config: GenerativeConfig
    ) -> None:
        """Take the weights that exist so far.

        Args:
            classifier: its weights are averaged.
            generator: trained along. None if it is not trained.
            config: rates and how they change.
        """
        self._classifier, self._config = classifier, config
        self._optimizer = torch.optim.Adam(classifier.parameters(), lr=config.lr)
        if generator is not None:
            self._optimizer.add_param_group({"params": list(generator.parameters())})
        self._average = RunningAverage(config.averaged_share)
        self._n_due, self._n_left = 0, 0

    def begin(
        self, new: Sequence[nn.Parameter], phases: Sequence[int], reach: Sequence[float] | None
    ) -> None:
        """Begin an experience.

        Args:
            new: parameters that were added.
            phases: number of steps of each phase; see `RunningAverage`.
            reach: u_l of each block, where the rate of a block depends on it.
        """
        self._optimizer.add_param_group({"params": [p for p in new if p.requires_grad]})
        self._average.begin(phases)
        self._n_due = self._n_left = sum(phases)
        power = _RATE_POWERS.get(self._config.unbias)
        if power is not None and reach is not None:
            self._scale_rates(reach, power)

    def clear(self) -> None:
        """Forget the gradients of the step before."""
        self._optimizer.zero_grad(set_to_none=True)

    def divide_gradients(self, reach: Sequence[float]) -> None:
        """Divide the gradient of block l by u_l, so that rehearsal is not diluted."""
        for block, u in zip(self._classifier.blocks, reach, strict=False):
            for parameter in block.parameters():
                if parameter.grad is not None:
                    parameter.grad /= max(u, 1e-3)

    def step(self) -> int:
        """Update every weight that has a gradient; return the multiply-adds that it took."""
        groups = self._optimizer.param_groups
        rates = [group["lr"] for group in groups]
        if self._config.decayed and self._n_due:
            for group in groups:
                group["lr"] *= max(self._n_left, 0) / self._n_due
        self._optimizer.step()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self._n_left -= 1
        moved = (p for group in groups for p in group["params"] if p.grad is not None)
        spent = self._average.macs
        self._average.step(self._classifier.parameters())
        return _ADAM_MACS * sum(p.numel() for p in moved) + self._average.macs - spent

    def _scale_rates(self, reach: Sequence[float], power: int) -> None:
        """Multiply the learning rate of block l by u_l to a power."""
        blocks = [list(block.parameters()) for block in self._classifier.blocks]
        moved = {id(p) for block in blocks for p in block}
        for group in self._optimizer.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in moved]
        for block, u in zip(blocks, reach, strict=False):
            rate = self._config.lr * max(u, 1e-3) ** power
            self._optimizer.add_param_group({"params": block, "lr": rate})
