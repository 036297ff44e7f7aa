"""Methods over latents that are vectors: a fully connected classifier, trained by experiences.

Protocol of Brain-Inspired Replay (van de Ven et al., Nature Communications 11:4069, 2020): latents
of a frozen part, a fully connected classifier, a fixed number of steps in each experience, and all
classes seen so far to choose from. `PROFILES` says what is reduced against the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Gathering, adam_macs
from benchmarks.methods.closed_forms import RandomFeatureRidge
from benchmarks.methods.rehearsal import Rehearsal
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.learner import GenerativeLearner
from plr_edge.generative.mlp import MlpClassifier
from plr_edge.replay.latent_codec import make_codec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.schedule import fully_connected


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much of the paper's effort is spent.

    Attributes:
        hidden: widths of the hidden layers.
        batch: new samples in a step, and rehearsed ones.
        iterations: steps in an experience.
        lr: learning rate of Adam.
    """

    hidden: tuple[int, ...]
    batch: int
    iterations: int
    lr: float


PROFILES = {
    "quick": Profile(hidden=(400, 400), batch=128, iterations=100, lr=1e-3),
    "wide": Profile(hidden=(2000, 2000), batch=128, iterations=200, lr=1e-3),
    "paper": Profile(hidden=(2000, 2000), batch=256, iterations=5000, lr=1e-4),
}


class Arrivals:
    """Indices of classes in the order in which they arrived, as the networks grow."""

    def __init__(self) -> None:
        self.classes: list[int] = []

    def index(self, labels: np.ndarray) -> np.ndarray:
        """Return indices (n,) int64 of labels (n,); labels seen first are added."""
        self.classes += sorted(set(labels.tolist()) - set(self.classes))
        place = {label: i for i, label in enumerate(self.classes)}
        return np.array([place[label] for label in labels.tolist()], np.int64)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return the labels of indices (n,)."""
        return np.array(self.classes)[indices]


class MlpNaive(Gathering):
    """Adam on the new samples alone, experience by experience."""

    @property
    def _batch(self) -> int:
        """Samples in a step."""
        return self.profile.batch

    def _rate(self, left: float) -> float:
        """Return the factor of the learning rate with this share of the steps left."""
        return 1.0

    def __init__(self, benchmark: Benchmark, config: LearningConfig) -> None:
        super().__init__(benchmark, config)
        self.profile = PROFILES[benchmark.profile]
        torch.set_num_threads(1)
        torch.manual_seed(config.seed)  # of the layers' initial weights
        widths = [benchmark.test.seen.latents.shape[1], *self.profile.hidden]
        self.classifier = MlpClassifier(widths)
        self.classifier.grow(len(benchmark.classes))
        self._n_seen, self._arrivals, self._macs = 0, Arrivals(), 0
        self._optimizer = torch.optim.Adam(self.classifier.parameters(), lr=self.profile.lr)
        self._rng = np.random.default_rng([config.seed, 3])

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Make the steps of one experience; see `Gathering`."""
        self._steps(x, y, self.profile.iterations)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        if not self._arrivals.classes:
            return {"": np.zeros(len(split.labels), np.int64)}
        with torch.no_grad():
            scores = self.classifier(torch.from_numpy(np.array(split.seen.latents)))
        n_seen = len(self._arrivals.classes)
        return {"": self._arrivals.labels(scores[:, :n_seen].argmax(1).numpy())}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        return {"macs": float(self._macs), "memory_bytes": 0.0}

    def _steps(self, x: np.ndarray, y: np.ndarray, n: int) -> None:
        target = torch.from_numpy(self._arrivals.index(y))
        latents, n_seen = torch.from_numpy(x), len(self._arrivals.classes)
        each = 3 * sum(p.numel() for p in self.classifier.parameters() if p.ndim == 2)
        for left in range(n, 0, -1):
            self._optimizer.param_groups[0]["lr"] = self.profile.lr * self._rate(left / n)
            batch = torch.from_numpy(self._rng.integers(len(y), size=self._batch))
            self._optimizer.zero_grad()
            logits = self.classifier(latents[batch])[:, :n_seen]
            functional.cross_entropy(logits, target[batch]).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._macs += len(batch) * each + adam_macs(self.classifier.parameters())


class MlpJoint(MlpNaive):
    """Adam on everything at once, with the steps of all experiences: the ceiling.

    A step has as many samples as those that rehearse: new and rehearsed ones together. Its rate
    falls linearly to 0.
    """

    @property
    def _batch(self) -> int:
        """Samples in a step."""
        return 2 * self.profile.batch

    def _rate(self, left: float) -> float:
        """Return the factor of the learning rate with this share of the steps left."""
        return left

    def new_experience(self) -> None:
        """Wait for the end; see `Method`."""
        return

    def finish(self) -> None:
        """Train when all has come; see `Method`."""
        super().new_experience()

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Make the steps of all experiences; see `Gathering`."""
        self._steps(x, y, self.profile.iterations * len(self.benchmark.starts))


class StoredRehearsal(Rehearsal):
    """Progressive Latent Replay in the step form on stored latents of 8 bits, over the same MLP."""

    def __init__(
        self,
        benchmark: Benchmark,
        config: LearningConfig,
        *,
        per_class: int | None = None,
        fast: bool = False,
    ) -> None:
        """Start with an empty memory.

        Args:
            benchmark: the stream.
            config: only the seed is used.
            per_class: latents kept of each class; None for the bytes of a generator.
            fast: add the scores of a random-feature ridge.
        """
        profile, n_classes = PROFILES[benchmark.profile], len(benchmark.classes)
        widths = [benchmark.test.seen.latents.shape[1], *profile.hidden]
        codec = make_codec("linear", (widths[0],))
        each = (codec.record_bytes + 4) * n_classes
        torch.manual_seed(config.seed)  # of the layers' initial weights
        config = replace(
            config, schedule="progressive", new_per_step=profile.batch, classifier_lr=0.05,
            rehearsed_per_step=profile.batch, blocks_lr=0.02, max_age_steps=50,
        )  # fmt: skip
        network = nn.Sequential(*MlpClassifier(widths).blocks)
        memory = LatentMemory(
            codec.record_bytes, (per_class or _generator_bytes(widths) // each) * each, config.seed
        )
        n_steps = profile.iterations * len(benchmark.starts)
        super().__init__(
            benchmark, config, codec, memory, schedule="progressive",
            network=(network, fully_connected([*widths, n_classes])),
            steps_per_frame=n_steps / len(benchmark.train.labels),
        )  # fmt: skip
        self._fast = RandomFeatureRidge(widths[0], n_classes) if fast else None

    def learn(self, split: Split) -> None:
        """Learn a chunk; see `Method`."""
        super().learn(split)
        if self._fast:
            self._fast.learn_many(np.array(split.seen.latents), split.labels)

    def costs(self) -> dict[str, float]:
        """Return costs, including those of the ridge; see `Method`."""
        costs = super().costs()
        if self._fast:
            costs["macs"] += self._fast.macs
            costs["memory_bytes"] += self._fast.n_bytes
        return costs

    def scores_many(self, split: Split) -> np.ndarray:
        """Return scores (n, K), those of the ridge added."""
        scores = super().scores_many(split)
        if self._fast:
            fast = self._fast.scores_many(np.array(split.seen.latents))
            scores = standardised(scores) + standardised(fast)
        return scores


def standardised(scores: np.ndarray) -> np.ndarray:
    """Shift and scale each row of scores (n, K) to mean 0 and spread 1."""
    centred = scores - scores.mean(1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(1, keepdims=True), 1e-12))


def _generator_bytes(widths: list[int]) -> int:
    config = GenerativeConfig(hidden=tuple(widths[1:]))
    return int(GenerativeLearner(widths[0], config).generator.n_bytes)
