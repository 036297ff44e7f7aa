"""Rehearsal of stored latents by our learner, with other memories, codecs and schedules.

All answer with their own trained classifier and use the latents that every method gets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Method, batches, sgd_macs
from benchmarks.methods.codecs import ProductCodec
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.schedule import Level, make_schedule

_JOINT_SAMPLES = 1_200_000  # most that joint training draws, but at least two epochs
_JOINT_EPOCHS = 12


class Rehearsal(Method):
    """Our learner with another memory, codec or schedule, answering with its classifier alone."""

    def __init__(
        self,
        benchmark: Benchmark,
        config: LearningConfig,
        codec: LatentCodec,
        memory: LatentMemory,
        *,
        network: tuple[nn.Sequential, tuple[Level, ...]] | None = None,
        schedule: str = "internal",
        steps_per_frame: float = 1 / 16,
        rehearse: bool = True,
    ) -> None:
        """Take over a memory.

        Args:
            benchmark: the stream.
            config: sizes and rates.
            codec: codec of the latents.
            memory: latent memory to rehearse from.
            network: trained blocks and their levels; the bundle's adaptive part by default.
            schedule: name of the schedule.
            steps_per_frame: training steps for each frame taught.
            rehearse: False trains on new latents alone.
        """
        super().__init__(benchmark, config)
        self.codec, self.memory, self._rehearse = codec, memory, rehearse
        self._steps_per_frame, self._owed = steps_per_frame, 0.0
        if network is None:
            network = adaptive_blocks(benchmark.bundle), benchmark.bundle.levels
        blocks, levels = network
        self.learner = Learner(
            blocks, levels, memory, codec,
            make_schedule(schedule, levels), config,
        )  # fmt: skip

    def learn(self, split: Split) -> None:
        """Store a chunk, and make the steps that are due; see `Method`."""
        self.n_taught += len(split.labels)
        self.learner.learn_many(self.codec.encode(split.seen.latents), split.labels)
        self._owed += len(split.labels) * self._steps_per_frame
        while self._owed >= 1:
            self.learner.step(rehearse=self._rehearse)
            self._owed -= 1

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        return {"": self.scores_many(split).argmax(1)}

    def scores_many(self, split: Split) -> np.ndarray:
        """Return logits (n, K)."""
        return self.learner.scores_many(self.features_of(split))

    def features_of(self, split: Split) -> np.ndarray:
        """Return the trained blocks' features (n, D)."""
        return blocks_output(self.learner.blocks, split.seen.latents)

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        kept = self.memory.n_bytes if self._rehearse else 0
        macs = learner_macs(self.learner) + self._codec_macs()
        return {"macs": float(macs), "memory_bytes": float(kept)}

    def _codec_macs(self) -> int:
        """Return the multiply-adds of encoding what was taught, and of making the codec."""
        codec = self.codec
        if isinstance(codec, ProductCodec):
            return codec.fit_macs + self.n_taught * codec.encode_macs
        return 0


class Naive(Rehearsal):
    """Fine-tune every block on the stream as it comes, without rehearsal."""

    def __init__(self, benchmark: Benchmark, config: LearningConfig, **tuned: Any) -> None:
        codec = benchmark.bundle.codec(8)
        memory = LatentMemory(codec.record_bytes, 64 * (codec.record_bytes + 4), config.seed)
        config = replace(config, cache_bytes=0, **tuned)
        super().__init__(benchmark, config, codec, memory, rehearse=False)


class Joint(Rehearsal):
    """Everything at once, many times over, every block: the ceiling for these blocks."""

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """Frames that are learned when all have come."""
        return 0 if self._finished else self.n_taught

    def __init__(self, benchmark: Benchmark, config: LearningConfig, **tuned: Any) -> None:
        codec = benchmark.bundle.codec(8)
        n = len(benchmark.train.labels)
        memory = LatentMemory(codec.record_bytes, n * (codec.record_bytes + 4), config.seed)
        config = replace(config, cache_bytes=0, new_per_step=1, rehearsed_per_step=64, **tuned)
        super().__init__(benchmark, config, codec, memory, steps_per_frame=0.0)
        self._finished = False

    def finish(self) -> None:
        """Train when all has come; see `Method`."""
        self._finished = True
        n = len(self.memory)
        n_samples = min(_JOINT_EPOCHS * n, max(_JOINT_SAMPLES, 2 * n))
        for _ in range(n_samples // 64):
            self.learner.step()


def remind_learner(benchmark: Benchmark, config: LearningConfig, **tuned: Any) -> Rehearsal:
    """Rehearse product-quantised latents at one level.

    Method: Hayes et al., "REMIND Your Neural Network to Prevent Catastrophic Forgetting", ECCV
    2020, section 3. The codebook is trained on the first tenth of the stream, as its base classes
    are. New samples are quantised too, and every step mixes them with rehearsed ones.
    """
    first = benchmark.train.seen.latents[: max(64, len(benchmark.train.labels) // 10)]
    codec = ProductCodec(np.asarray(first), seed=config.seed)
    budget = config.memory_bytes - codec.codebook_bytes
    memory = LatentMemory(codec.record_bytes, budget, config.seed)
    return Rehearsal(benchmark, replace(config, **{"blocks_lr": 0.001, **tuned}), codec, memory)


def learner_macs(learner: Learner) -> int:
    """Return the multiply-adds of training: passes through the blocks, and updates of weights.

    An update is counted for the classes known at the end.
    """
    classifier = 2 * learner.cosine.weight.numel()
    updates = sum(
        n * (sgd_macs(learner.blocks[level:].parameters()) + classifier)
        for level, n in enumerate(learner.features.cost.steps_per_level)
    )
    return learner.features.cost.macs + updates


def blocks_output(blocks: nn.Module, latents: np.ndarray) -> np.ndarray:
    """Run blocks on latents (n, ...) in batches, without gradients."""
    with torch.no_grad():
        return np.concatenate([blocks(torch.from_numpy(np.array(x))).numpy()
                               for x in batches(latents)])  # fmt: skip
