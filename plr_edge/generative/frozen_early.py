"""FrozenEarlyLearner: early blocks learn in the first experiences only, and are then kept still.

It is the limit of Progressive Latent Replay's schedule over time: all rehearsal at level 1 at
first, none there afterwards. From then on statistics of *real* features of a deeper level are kept,
which can never go stale, because the blocks below it do not move. Everything enters there. Deeper
blocks are trained on new features and generated ones, or their optimum is taken in closed form.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from plr_edge.errors import ConfigError
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.learner import GenerativeLearner
from plr_edge.generative.level_statistics import LevelStatistics
from plr_edge.generative.rehearsal import PartCosts

_PUSHED_UP = 200  # generated samples a class from which earlier classes get their statistics


class FrozenEarlyLearner:
    """Train all blocks in the first experiences, and those from `entry_level` up afterwards.

    Attributes:
        config: architecture and method.
        whole: trains all blocks, until `frozen_after` experiences have passed.
        upper: trains the blocks from the level of entry up. None before, or if the answer is a
            closed form.
        statistics: statistics of features of the level of entry.
        n_steps: number of training steps.
    """

    def __init__(self, latent_width: int, config: GenerativeConfig) -> None:
        """Start without classes.

        Args:
            latent_width: length of a latent vector.
            config: architecture and method.

        Raises:
            ConfigError: the network has no such level of entry.
        """
        self.config, n_blocks = config, len(config.hidden)
        self._entry = config.entry_level - 1  # index of the level
        if not 0 <= self._entry <= n_blocks:
            raise ConfigError(
                f"entry_level is {config.entry_level}; the levels are 1 to {n_blocks + 1}"
            )
        self.whole = GenerativeLearner(latent_width, replace(config, frozen_after=0))
        self.upper: GenerativeLearner | None = None
        self._n_beside = latent_width if config.with_latent and self._entry else 0
        self.statistics = LevelStatistics(
            self._n_beside + self.whole.widths[self._entry],
            config.modes,
            rectified=self._entry > 0,
            n_beside=self._n_beside,
        )
        self.n_steps = self.n_classes = 0
        self._experience, self._solved = 0, (torch.zeros(0), torch.zeros(0))

    @property
    def is_frozen(self) -> bool:
        """Whether the early blocks are kept still in the current experience."""
        return self._experience > self.config.frozen_after

    @property
    def takes_steps(self) -> bool:
        """Whether `step` trains anything in the current experience."""
        return not self.is_frozen or self.config.answer != "closed form"

    @property
    def n_bytes(self) -> int:
        """Bytes of the statistics that rehearsal needs."""
        return self.statistics.n_bytes

    @property
    def costs(self) -> PartCosts:
        """Multiply-adds and seconds by part."""
        return self.whole.costs

    def begin_experience(
        self, n_classes: int, n_final: int | None = None, n_steps: int = 0
    ) -> None:
        """Begin an experience; see `GenerativeLearner.begin_experience`."""
        self._experience += 1
        if not self.is_frozen:
            self.whole.begin_experience(n_classes, n_final, n_steps)
        elif self.config.answer != "closed form":
            self.upper = self.upper or self._make_upper()
            self.upper.begin_experience(n_classes, n_final, n_steps)
        self.n_classes = n_classes

    def entering(self, x: torch.Tensor) -> torch.Tensor:
        """Return latents (n, D) as `step` and `end_experience` take them.

        Call it once an experience, so that the blocks that do not move run once a sample.

        Returns:
            Latents, until the early blocks are frozen. Afterwards what the statistics are of:
            features of the level of entry, behind the latent if that is read too.
        """
        if not self.is_frozen:
            return x
        with self.costs.timed("new data"):
            return self._read(x, "new data")

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Run one training step on results of `entering`; nothing if a closed form answers."""
        if not self.is_frozen:
            self.whole.step(x, y)
        elif self.upper is not None:
            self.upper.step(x[:, self._n_beside :], y)
        else:
            return
        self.n_steps += 1

    def end_experience(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Learn statistics of the samples of the experience, each of them once.

        Args:
            x: (n, D) float32, as `entering` returned them.
            y: (n,) int64 labels.
        """
        if not self.is_frozen:
            self.whole.end_experience(x, y)
            if self._experience < self.config.frozen_after:
                return
            self._start_statistics(y)
            x = self._read(x, "generator")
        with self.costs.timed("generator"):
            self.statistics.grow(self.n_classes)
            self._learn_statistics(x, y)
            if self.config.answer != "trained":
                self._solved = self.statistics.discriminants()
                self.costs.macs["generator"] += self.statistics.discriminant_macs()

    @torch.no_grad()
    def scores_many(self, x: torch.Tensor) -> np.ndarray:
        """Return scores (n, K) of latents (n, D)."""
        if self._experience < self.config.frozen_after or not self.statistics.n_classes:
            return self.whole.scores_many(x)
        read, scores = self._read(x), list[torch.Tensor]()
        if self.config.answer != "closed form":
            upper, n_beside = self.upper, self._n_beside
            scores.append(
                self.whole.classifier(x) if upper is None else upper.classifier(read[:, n_beside:])
            )
        if self.config.answer != "trained":
            scores.append(self.statistics.scores_many(read, self._solved))
        if len(scores) == 2:
            scores = [(s - s.mean(1, keepdim=True)) / s.std(1, keepdim=True) for s in scores]
        return np.asarray(sum(scores[1:], scores[0]).numpy())

    def predict_many(self, x: torch.Tensor) -> np.ndarray:
        """Return the class index (n,) int64 of each latent (n, D)."""
        return np.asarray(self.scores_many(x).argmax(1))

    @torch.no_grad()
    def _read(self, x: torch.Tensor, part: str = "") -> torch.Tensor:
        """Return what the statistics are of, and add the cost of running the blocks to a part."""
        classifier = self.whole.classifier
        if part:
            self.costs.macs[part] += len(x) * classifier.macs_below(self._entry)
        features = x
        for block in list(classifier.blocks)[: self._entry]:
            features = block(features)
        return torch.cat([x, features], dim=1) if self._n_beside else features

    def _learn_statistics(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.statistics.learn_many(x, y)
        self.costs.macs["generator"] += self.statistics.learn_macs(len(x))

    def _start_statistics(self, labels: torch.Tensor) -> None:
        """Let classes of earlier experiences start from generated latents, pushed up."""
        earlier = sorted(set(range(self.whole.classifier.n_classes)) - set(labels.tolist()))
        if not earlier:
            return
        generator, draw = self.whole.generator, self.whole.draw
        self.costs.macs["decode"] += generator.freeze(draw)
        self.statistics.grow(self.whole.classifier.n_classes)
        classes = torch.tensor(earlier).repeat_interleave(_PUSHED_UP)
        (latents,) = generator.sample_levels(classes, 0, draw)
        self.costs.macs["decode"] += len(classes) * generator.decode_macs(0)
        self._learn_statistics(self._read(latents, "decode"), classes)

    def _make_upper(self) -> GenerativeLearner:
        """Return a learner of the blocks from the level of entry up, with their weights."""
        config = replace(
            self.config,
            hidden=self.config.hidden[self._entry :],
            schedule="internal",
            frozen_after=0,
            generator="gaussian",
            recompute=True,
        )
        upper = GenerativeLearner(
            self.whole.widths[self._entry],
            config,
            classifier=self.whole.classifier.part_from(self._entry),
            generator=self.statistics,
            costs=self.costs,
        )
        upper.experience = self.whole.experience
        return upper
