"""Method: what learns from a stream and answers at any time. Knows benchmarks, not how they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from benchmarks.data.encoded import Split
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig

_BATCH = 250


class Method(ABC):
    """A method that sees a stream once, in chunks, and answers with class indices.

    Attributes:
        benchmark: the stream and what is known of it beforehand.
        config: sizes and rates.
        n_taught: frames handed over.
        n_waiting: frames handed over but not learned yet.
    """

    n_waiting: int = 0
    reads_latents = True  # else it runs the frozen part itself, and counts it

    def __init__(self, benchmark: Benchmark, config: LearningConfig) -> None:
        self.benchmark, self.config = benchmark, config
        self.n_taught = 0

    @abstractmethod
    def learn(self, split: Split) -> None:
        """Learn a chunk."""

    @abstractmethod
    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Return class indices (n,) by variant: a suffix of the name, '' for the whole method."""

    @abstractmethod
    def costs(self) -> dict[str, float]:
        """Return multiply-adds of learning (`macs`) and bytes kept for it (`memory_bytes`)."""

    def details(self) -> dict[str, Any]:
        """Return more measurements of this method, as JSON values."""
        return {}

    def finish(self) -> None:
        """Do what is left when the stream has ended."""
        return

    def new_experience(self) -> None:
        """Handle a boundary between experiences; most methods ignore it."""
        return


class Gathering(Method):
    """A method that gathers the latents of an experience and trains when it has ended."""

    def __init__(self, benchmark: Benchmark, config: LearningConfig) -> None:
        super().__init__(benchmark, config)
        self._gathered: list[Split] = []

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """Frames of the experience that is being gathered."""
        return sum(len(split.labels) for split in self._gathered)

    def learn(self, split: Split) -> None:
        """Gather a chunk; see `Method`."""
        self._gathered.append(split)
        self.n_taught += len(split.labels)

    def new_experience(self) -> None:
        """Train on what was gathered; see `Method`."""
        if self._gathered:
            x = np.concatenate([split.seen.latents for split in self._gathered])
            y = np.concatenate([split.labels for split in self._gathered])
            self._gathered.clear()
            self.train(x, y)

    def finish(self) -> None:
        """Train on the last experience; see `Method`."""
        self.new_experience()

    @abstractmethod
    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Learn latents (n, ...) of classes (n,)."""


def sgd_macs(weights: Iterable[torch.Tensor]) -> int:
    """Return the multiply-adds of one update by SGD with momentum: two a value."""
    return 2 * sum(weight.numel() for weight in weights)


def adam_macs(weights: Iterable[torch.Tensor]) -> int:
    """Return the multiply-adds of one update by Adam: two for each moment, one for the step."""
    return 5 * sum(weight.numel() for weight in weights)


def batches(array: np.ndarray) -> list[np.ndarray]:
    """Divide rows into parts that fit in memory when they are run."""
    return [array[i : i + _BATCH] for i in range(0, len(array), _BATCH)]
