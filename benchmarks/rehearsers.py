"""Other ways to train the adaptive blocks: the field's, written from the papers' equations.

All answer with their own trained classifier and use the latents that every contender gets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.contenders import Method
from benchmarks.datasets import Part
from benchmarks.product_codec import FloatCodec, ProductCodec
from benchmarks.scenarios import Task
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.schedule import make_schedule

_BATCH = 250
_JOINT_SAMPLES = 1_200_000  # that joint training draws at most, and at least two epochs
_JOINT_EPOCHS = 12
Codec = LatentCodec | FloatCodec | ProductCodec


class Rehearser(Method):
    """Our learner with another memory, codec or schedule, answering with its classifier alone."""

    def __init__(
        self,
        task: Task,
        config: LearningConfig,
        codec: Codec,
        memory: LatentMemory,
        *,
        schedule: str = "internal",
        steps_per_frame: float = 1 / 16,
        rehearse: bool = True,
    ) -> None:
        super().__init__(task, config)
        self.codec, self.memory, self._rehearse = codec, memory, rehearse
        self._steps_per_frame, self._owed = steps_per_frame, 0.0
        levels = task.bundle.levels
        self.learner = Learner(
            adaptive_blocks(task.bundle), levels, memory, codec,  # type: ignore[arg-type]
            make_schedule(schedule, levels), config,
        )  # fmt: skip

    def learn(self, part: Part) -> None:
        """Take a chunk in, and make the steps that are due."""
        self.n_taught += len(part.labels)
        self.learner.learn_many(self.codec.encode(part.seen.latents), part.labels)
        self._owed += len(part.labels) * self._steps_per_frame
        while self._owed >= 1:
            self.learner.step(rehearse=self._rehearse)
            self._owed -= 1

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        parts = [
            self.learner.scores_many(self._features(latents)).argmax(1)
            for latents in batches(part.seen.latents)
        ]
        return {"": np.concatenate(parts)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        kept = self.memory.n_bytes if self._rehearse else 0
        return {"macs": float(self.learner.features.cost.macs), "memory_bytes": float(kept)}

    def _features(self, latents: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.learner.blocks(torch.from_numpy(np.array(latents))).numpy())


class Naive(Rehearser):
    """Fine-tune every block on the stream as it comes, without rehearsal."""

    def __init__(self, task: Task, config: LearningConfig, **tuned: Any) -> None:
        codec = task.bundle.codec(8)
        memory = LatentMemory(codec.record_bytes, 64 * (codec.record_bytes + 4), config.seed)
        config = replace(config, cache_bytes=0, **tuned)
        super().__init__(task, config, codec, memory, rehearse=False)


class Joint(Rehearser):
    """Everything at once, many times over, every block: the ceiling for these blocks."""

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """Frames that are learned when all have come."""
        return 0 if self._finished else self.n_taught

    def __init__(self, task: Task, config: LearningConfig, **tuned: Any) -> None:
        codec = task.bundle.codec(8)
        n = len(task.train.labels)
        memory = LatentMemory(codec.record_bytes, n * (codec.record_bytes + 4), config.seed)
        config = replace(config, cache_bytes=0, new_per_step=1, rehearsed_per_step=64, **tuned)
        super().__init__(task, config, codec, memory, steps_per_frame=0.0)
        self._finished = False

    def finish(self) -> None:
        """Train when all has come."""
        self._finished = True
        n = len(self.memory)
        n_samples = min(_JOINT_EPOCHS * n, max(_JOINT_SAMPLES, 2 * n))
        for _ in range(n_samples // 64):
            self.learner.step()


def remind(task: Task, config: LearningConfig, **tuned: Any) -> Rehearser:
    """Rehearse product-quantised latents at one level.

    Method: Hayes et al., "REMIND Your Neural Network to Prevent Catastrophic Forgetting", ECCV
    2020, section 3. The codebook is trained on the first tenth of the stream, as its base classes
    are; new samples are quantised too, and every step mixes them with rehearsed ones.
    """
    first = task.train.seen.latents[: max(64, len(task.train.labels) // 10)]
    codec = ProductCodec(np.asarray(first), seed=config.seed)
    budget = config.memory_bytes - codec.codebook_bytes
    memory = LatentMemory(codec.record_bytes, budget, config.seed)
    return Rehearser(task, replace(config, **{"blocks_lr": 0.001, **tuned}), codec, memory)


def batches(array: np.ndarray) -> list[np.ndarray]:
    """Divide rows into parts that fit in memory once they are run."""
    return [array[i : i + _BATCH] for i in range(0, len(array), _BATCH)]
