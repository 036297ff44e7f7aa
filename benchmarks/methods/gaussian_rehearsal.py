"""Rehearsal of latents that are drawn from class means and one covariance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.data.encoded import Split
from benchmarks.methods.codecs import FloatCodec
from benchmarks.methods.rehearsal import Rehearsal
from benchmarks.scenarios import Benchmark
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import LearningConfig
from plr_edge.generative.gaussian_memory import GaussianMemory


class GaussianRehearsal(Rehearsal):
    """Progressive Latent Replay from a Gaussian generator: only sums are stored.

    Answers together with our fast classifier, which keeps only sums too, or without it (variant
    `, no fast`).
    """

    def __init__(self, benchmark: Benchmark, config: LearningConfig, **tuned: Any) -> None:
        config = replace(config, cache_bytes=0, **tuned)
        bundle = benchmark.bundle
        least = -np.inf if bundle.manifest["latent_signed"] else 0.0
        codec = FloatCodec(bundle.latent_shape, least=least)
        memory = GaussianMemory(
            codec, config.new_per_step, config.rehearsed_per_step, config.seed,
            signed=bool(bundle.manifest["latent_signed"]),
        )  # fmt: skip
        super().__init__(
            benchmark, config, codec, memory, schedule="progressive", steps_per_frame=1 / 4
        )
        self._fast = CombinedClassifier(bundle.taps_width, bundle.feature_width)

    def learn(self, split: Split) -> None:
        """Let the fast classifier learn a chunk, then the blocks; see `Method`."""
        self._fast.learn_many(self._taps(split), self.features_of(split), split.labels)
        super().learn(split)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        features = self.features_of(split)
        self._fast.solve()
        self._fast.rehearsed = self.learner.classifier()
        both = self._fast.answer_many(self._taps(split), features).probabilities
        return {"": both.argmax(1), ", no fast": self.learner.scores_many(features).argmax(1)}

    def costs(self) -> dict[str, float]:
        """Return costs, including those of the fast classifier; see `Method`."""
        assert isinstance(self.memory, GaussianMemory)
        own, width = super().costs(), self._fast.ridge.width + 1
        statistics = 2 * width**2 + self._fast.mixing.moments.width**2 / 2
        macs = own["macs"] + self.n_taught * statistics + self.memory.macs
        return {"macs": macs, "memory_bytes": own["memory_bytes"] + 4 * width**2}

    def _taps(self, split: Split) -> np.ndarray:
        return split.seen.taps[:, : self.benchmark.bundle.taps_width]
