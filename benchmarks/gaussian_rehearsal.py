"""Rehearsal of latents that are drawn from class means and a shared covariance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import Part
from benchmarks.product_codec import FloatCodec
from benchmarks.rehearsers import Rehearser, batches
from benchmarks.scenarios import Task
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import LearningConfig
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.replay.latent_memory import LatentMemory


class GaussianMemory(LatentMemory):
    """Slots for the newest latents, and others that are drawn anew for every step."""

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
            self.generator.freeze()
            self._n_frozen = seen
        else:
            self.generator.refresh()
        known = np.flatnonzero(self.generator.counts.numpy() > 0)
        classes = rng.choice(known, n)
        (latents,) = self.generator.sample_levels(torch.from_numpy(classes), 0, self._draw)
        slots = np.arange(self._n_new, self._n_new + n)
        shaped = latents.numpy().reshape(n, *self._codec.shape)
        self._records[slots] = self._codec.encode(np.maximum(shaped, self._codec.least))
        self._labels[slots] = classes
        return slots


class Generated(Rehearser):
    """Progressive Latent Replay from a Gaussian generator: nothing stored but sums.

    Answers together with our fast classifier, which keeps sums alone too, or without it (suffix
    `, no fast`).
    """

    def __init__(self, task: Task, config: LearningConfig, **tuned: Any) -> None:
        config = replace(config, cache_bytes=0, **tuned)
        bundle = task.narrow
        least = -np.inf if bundle.manifest["latent_signed"] else 0.0
        codec = FloatCodec(bundle.latent_shape, least=least)
        memory = GaussianMemory(codec, config.new_per_step, config.rehearsed_per_step, config.seed)
        super().__init__(task, config, codec, memory, schedule="progressive", steps_per_frame=1 / 4)
        self._fast = CombinedClassifier(bundle.taps_width, bundle.feature_width)

    def learn(self, part: Part) -> None:
        """Let the fast classifier learn a chunk, then the blocks; see `Method`."""
        self._fast.learn_many(self._taps(part), self._features(part.seen.latents), part.labels)
        super().learn(part)

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        features = np.concatenate([self._features(x) for x in batches(part.seen.latents)])
        self._fast.solve()
        self._fast.rehearsed = self.learner.classifier()
        both, _ = self._fast.answer_many(self._taps(part), features)
        return {"": both.argmax(1), ", no fast": self.learner.scores_many(features).argmax(1)}

    def costs(self) -> dict[str, float]:
        """Return costs, those of the fast classifier among them; see `Method`."""
        own, width = super().costs(), self._fast.ridge.width + 1
        macs = own["macs"] + self.n_taught * 2 * width**2
        return {"macs": macs, "memory_bytes": own["memory_bytes"] + 4 * width**2}

    def _taps(self, part: Part) -> np.ndarray:
        return part.seen.taps[:, : self.task.narrow.taps_width]
