"""Rehearsal of latents that are drawn from class means and one covariance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.data.encoded import Split
from benchmarks.methods.codecs import FloatCodec
from benchmarks.methods.rehearsal import Rehearsal
from benchmarks.scenarios import Benchmark
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import LearningConfig
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.replay.latent_memory import LatentMemory


class GaussianMemory(LatentMemory):
    """Slots for the newest latents, and for latents that every step draws again."""

    def __init__(self, codec: FloatCodec, n_new: int, n_drawn: int, seed: int) -> None:
        n_slots = n_new + n_drawn
        super().__init__(codec.record_bytes, n_slots * (codec.record_bytes + 4), seed)
        self._codec, self._n_new = codec, n_new
        width = int(np.prod(codec.shape))
        self.generator = GaussianGenerator(width)
        self._records = np.zeros((n_slots, codec.record_bytes), np.uint8)
        self._labels = np.full(n_slots, -1, np.int32)
        self._n, self._at, self._n_frozen = n_slots, 0, 0
        self._draw = torch.Generator().manual_seed(seed)
        self.macs = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the generator's sums and of the newest latents."""
        return self.generator.n_bytes + self._n_new * (self.record_bytes + 4)

    def add(self, record: np.ndarray, label: int) -> int:
        """Let the generator learn a latent, and keep it among the newest."""
        if label >= self.generator.n_classes:
            self.generator.grow(label + 1)
        latent = torch.from_numpy(self._codec.decode(record[None]).reshape(1, -1))
        self.generator.learn_many(latent, torch.tensor([label]))
        self.macs += latent.numel() * (latent.numel() + 2)
        slot = self._at
        self._records[slot], self._labels[slot] = record, label
        self._at = (self._at + 1) % self._n_new
        return slot

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw latents of classes known into the other slots, and return these."""
        seen = int(self.generator.counts.sum())
        if n == 0 or seen < 32:
            return np.empty(0, np.int64)
        if seen >= 1.5 * self._n_frozen:  # an eigendecomposition: seldom
            self.macs += self.generator.freeze()
            self._n_frozen = seen
        else:
            self.generator.refresh()
        known = np.flatnonzero(self.generator.counts.numpy() > 0)
        classes = rng.choice(known, n)
        (latents,) = self.generator.sample_levels(torch.from_numpy(classes), 0, self._draw)
        self.macs += n * self.generator.decode_macs(0)
        slots = np.arange(self._n_new, self._n_new + n)
        shaped = latents.numpy().reshape(n, *self._codec.shape)
        self._records[slots] = self._codec.encode(np.maximum(shaped, self._codec.least))
        self._labels[slots] = classes
        return slots


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
        memory = GaussianMemory(codec, config.new_per_step, config.rehearsed_per_step, config.seed)
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
