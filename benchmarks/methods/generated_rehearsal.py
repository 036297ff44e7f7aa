"""Rehearsal of generated latents over a fully connected classifier, as a method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Gathering
from benchmarks.methods.closed_forms import RandomFeatureRidge
from benchmarks.methods.mlp import PROFILES, Arrivals, standardised
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.frozen_early import FrozenEarlyLearner
from plr_edge.generative.learner import GenerativeLearner
from plr_edge.generative.level_statistics import LevelStatistics

_REHEARSING = ("decode", "targets", "rehearsal")  # parts of a step's time


class GeneratedRehearsal(Gathering):
    """Progressive Latent Replay, Internal Replay or BI-R with latents drawn from a generator."""

    def __init__(
        self,
        benchmark: Benchmark,
        config: LearningConfig,
        *,
        fast: bool = False,
        iterations: int | None = None,
        **changes: Any,
    ) -> None:
        """Start with no class.

        Args:
            benchmark: the stream.
            config: only the seed is used.
            fast: add the scores of a random-feature ridge, as `plr-edge adapt` adds its own ridge.
            iterations: steps in an experience; those of the profile by default.
            **changes: fields of `GenerativeConfig`.
        """
        super().__init__(benchmark, config)
        profile = self.profile = PROFILES[benchmark.profile]
        width = benchmark.test.seen.latents.shape[1]
        generative = GenerativeConfig(
            hidden=profile.hidden, batch=profile.batch, rehearsed=profile.batch, lr=profile.lr,
            seed=config.seed,
        )  # fmt: skip
        torch.set_num_threads(1)
        generative = replace(generative, **changes)
        kind = FrozenEarlyLearner if generative.frozen_after else GenerativeLearner
        self.learner: FrozenEarlyLearner | GenerativeLearner = kind(width, generative)
        self._arrivals = Arrivals()
        self._fast = RandomFeatureRidge(width, len(benchmark.classes)) if fast else None
        self._rng = np.random.default_rng([config.seed, 3])
        self._iterations = iterations or profile.iterations

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Make the steps of one experience; see `Gathering`."""
        index, learner, n = self._arrivals.index(y), self.learner, self._iterations
        latents, target = torch.from_numpy(x), torch.from_numpy(index)
        learner.begin_experience(len(self._arrivals.classes), len(self.benchmark.classes), n)
        latents = learner.entering(latents)
        for _ in range(n if learner.takes_steps else 0):
            batch = torch.from_numpy(self._rng.integers(len(y), size=self.profile.batch))
            learner.step(latents[batch], target[batch])
        learner.end_experience(latents, target)
        if self._fast:
            self._fast.learn_many(x, index)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        if not self._arrivals.classes:
            return {"": np.zeros(len(split.labels), np.int64)}
        x = np.array(split.seen.latents)
        scores = self.learner.scores_many(torch.from_numpy(x))
        if self._fast:
            scores = standardised(scores) + standardised(self._fast.scores_many(x))
        return {"": self._arrivals.labels(scores.argmax(1))}

    def costs(self) -> dict[str, float]:
        """Return costs, including those of the ridge; see `Method`."""
        macs = sum(self.learner.costs.macs.values())
        kept = self.learner.n_bytes
        if self._fast:
            macs, kept = macs + self._fast.macs, kept + self._fast.n_bytes
        return {"macs": float(macs), "memory_bytes": float(kept)}

    def details(self) -> dict[str, Any]:
        """Return milliseconds of a step and of what in it rehearses; see `Method`."""
        seconds, n = self.learner.costs.seconds, max(1, self.learner.n_steps)
        rehearsing = sum(seconds[part] for part in _REHEARSING)
        return {"step_ms": 1e3 * sum(seconds.values()) / n, "rehearsal_ms": 1e3 * rehearsing / n}


class BlockStatistics(Gathering):
    """Discriminants of class statistics, over the latent or over a first block that is random.

    They are what `plr frozen` answers with, without anything that was trained.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        config: LearningConfig,
        *,
        modes: int = 1,
        block: bool = True,
        with_latent: bool = False,
    ) -> None:
        """Start without classes.

        Args:
            benchmark: the stream.
            config: only the seed is used.
            modes: modes of each class.
            block: read a random block of the profile's first width; else the latent alone.
            with_latent: read the latent beside the block.
        """
        super().__init__(benchmark, config)
        torch.set_num_threads(1)
        torch.manual_seed(config.seed)
        width = benchmark.test.seen.latents.shape[1]
        hidden = PROFILES[benchmark.profile].hidden[0]
        self._block = nn.Linear(width, hidden) if block else None
        self._with_latent = with_latent or not block
        read = (hidden if block else 0) + (width if self._with_latent else 0)
        self._statistics = LevelStatistics(read, modes)
        self._arrivals, self._macs = Arrivals(), 0
        self._solved: tuple[torch.Tensor, torch.Tensor] | None = None

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Learn the statistics of one experience; see `Gathering`."""
        index = torch.from_numpy(self._arrivals.index(y))
        statistics = self._statistics
        statistics.grow(len(self._arrivals.classes))
        statistics.learn_many(self._read(torch.from_numpy(x)), index)
        self._solved = statistics.discriminants()
        below = 0 if self._block is None else self._block.weight.numel()
        self._macs += len(y) * below + statistics.learn_macs(len(y))
        self._macs += statistics.discriminant_macs()

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        if self._solved is None:
            return {"": np.zeros(len(split.labels), np.int64)}
        read = self._read(torch.from_numpy(np.array(split.seen.latents)))
        scores = self._statistics.scores_many(read, self._solved)
        return {"": self._arrivals.labels(scores.argmax(1).numpy())}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        return {"macs": float(self._macs), "memory_bytes": float(self._statistics.n_bytes)}

    @torch.no_grad()
    def _read(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x] if self._with_latent else []
        return torch.cat([*parts, *([] if self._block is None else [self._block(x).relu()])], 1)
