"""A simulated fleet: robots that saw different classes exchange what they know.

What is sent is rounded as it would be, and its bytes are counted. All robots have the same bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.class_statistics import Statistics
from benchmarks.data.encoded import Split
from benchmarks.methods.rehearsal import blocks_output
from benchmarks.results import Row
from benchmarks.scenarios import Benchmark
from plr_edge.classifiers.class_means import pad_classes, unit
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.schedule import make_schedule

_STEPS = 300  # of training, whoever learns from whatever
_MOST_TESTED = 1000
_ROUNDS = (1, 5)  # of federated averaging
_LATENTS_EACH = (2, 10)  # sent of each class
_DRAWN_EACH = 20  # of each class from a generator
OVERLAPS = {"disjoint": 1, "overlapping": 2}  # robots that see a class


@dataclass(frozen=True)
class FleetRobot:
    """What one robot saw.

    Attributes:
        split: its frames.
        taps: statistics of the taps that the fast classifier reads.
        features: statistics of the last layer as exported.
        latents: statistics of the latents.
    """

    split: Split
    taps: Statistics
    features: Statistics
    latents: Statistics


class Fleet:
    """Robots, and what each would answer after hearing from the others."""

    def __init__(
        self, benchmark: Benchmark, n_robots: int, overlap: str, config: LearningConfig
    ) -> None:
        """Give every class's frames to `OVERLAPS[overlap]` of the robots, in equal parts."""
        self.benchmark, self.config = (
            benchmark,
            replace(config, new_per_step=1, rehearsed_per_step=64),
        )
        self.codec = benchmark.bundle.codec(config.bits, config.pool)
        self._test = benchmark.test.every(_MOST_TESTED)
        self._newest: tuple[Learner, np.ndarray] | None = None
        rng = np.random.default_rng([config.seed, 11])
        rows: list[list[np.ndarray]] = [[] for _ in range(n_robots)]
        share = OVERLAPS[overlap]
        for place, c in enumerate(rng.permutation(len(benchmark.classes))):
            own = rng.permutation(np.flatnonzero(benchmark.train.labels == c))
            for i, part in enumerate(np.array_split(own, share)):
                rows[(place + i) % n_robots].append(part)
        self.robots = [self._robot(rng.permutation(np.concatenate(part))) for part in rows]
        self.all = self._robot(rng.permutation(len(benchmark.train.labels)))

    def run(self) -> list[Row]:
        """Return a row for each way to share: bytes that a robot sends, accuracy of each robot."""
        rows = [
            self._row("isolation", "fast", 0, [self._fast(r.taps) for r in self.robots]),
            self._row("isolation", "fast + PLR", 0,
                      [self._both(r.taps, self._trained([r.split])) for r in self.robots]),
            *self._statistics(), *self._latents(), *self._generators(), *self._averaged(),
            self._row("one robot saw everything", "fast", None, [self._fast(self.all.taps)]),
            self._row("one robot saw everything", "fast + PLR", None,
                      [self._both(self.all.taps, self._trained([self.all.split]))]),
        ]  # fmt: skip
        return rows

    def _robot(self, rows: np.ndarray) -> FleetRobot:
        split, n = self.benchmark.train.take(rows), len(self.benchmark.classes)
        latents = split.seen.latents.reshape(len(rows), -1)
        statistics = [
            Statistics.of(x, split.labels, n)
            for x in (self._taps(split), split.seen.features, latents)
        ]
        return FleetRobot(split, *statistics)

    # what is shared

    def _statistics(self) -> list[Row]:
        """Class means alone, LDA's and ridge's sums: merged by adding, the same for every robot."""
        features, lda_bytes = self._merged([r.features for r in self.robots])
        taps, ridge_bytes = self._merged([r.taps for r in self.robots])
        weights, constants = features.lda()
        lda = self._test.seen.features @ weights.T + constants
        means = unit(self._test.seen.features) @ unit(features.means).T
        width = features.sums.shape[1]
        n_known = float(np.mean([(r.features.counts > 0).sum() for r in self.robots]))
        return [
            self._row("class means", "class means", n_known * (2 * width + 4), [means]),
            self._row("statistics of the last layer", "LDA", lda_bytes, [lda]),
            self._row("statistics of the taps", "fast (ridge)", ridge_bytes, [self._fast(taps)]),
        ]

    def _latents(self) -> list[Row]:
        """A few latents of each class in the store's bits; with and without ridge's sums."""
        taps, ridge_bytes = self._merged([r.taps for r in self.robots])
        rows = []
        for each in _LATENTS_EACH:
            sent = [_few(robot.split, each) for robot in self.robots]
            n_bytes = float(np.mean([len(p.labels) for p in sent])) * (self.codec.record_bytes + 4)
            learners = self._heard(sent)
            name = f"latents, {each} a class"
            rows += self._with_and_without(name, n_bytes, taps, ridge_bytes, learners)
        return rows

    def _generators(self) -> list[Row]:
        """Class means and a shared covariance of the latents, from which the others draw."""
        taps, ridge_bytes = self._merged([r.taps for r in self.robots])
        sent = [robot.latents.as_received() for robot in self.robots]
        rng = np.random.default_rng([self.config.seed, 12])
        drawn = [self._draw(statistics, rng) for statistics, _ in sent]
        learners = self._heard(drawn)
        n_bytes = float(np.mean([size for _, size in sent]))
        name = "Gaussian generator of latents"
        return self._with_and_without(name, n_bytes, taps, ridge_bytes, learners)

    def _with_and_without(
        self, name: str, n_bytes: float, taps: Statistics, taps_bytes: float,
        learners: list[Learner],
    ) -> list[Row]:  # fmt: skip
        """Return rows of rehearsal alone, and together with ridge from everybody's statistics."""
        pairs = [(self._slow(learner), self._both(taps, learner)) for learner in learners]
        slow, both = (list(scores) for scores in zip(*pairs, strict=True))
        return [
            self._row(name, "PLR", n_bytes, slow),
            self._row(f"{name} + statistics of the taps", "fast + PLR", n_bytes + taps_bytes, both),
        ]

    def _averaged(self) -> list[Row]:
        """Weights averaged by samples: McMahan et al., AISTATS 2017, algorithm 1 (FedAvg)."""
        rows = []
        for n_rounds in _ROUNDS:
            learners = [self._learner([robot.split]) for robot in self.robots]
            for _ in range(n_rounds):
                for learner in learners:
                    _steps(learner, _STEPS // n_rounds)
                mean, rows_mean = self._average(learners)
                for learner in learners:
                    learner.restore(mean, rows_mean)
            size = sum(a.nbytes for a in mean.values()) + rows_mean.nbytes
            name = f"weights averaged (FedAvg), {n_rounds} round{'s' * (n_rounds > 1)}"
            rows.append(self._row(name, "PLR", size * n_rounds, [self._slow(learners[0])]))
        return rows

    def _average(self, learners: list[Learner]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Average the blocks, and each class's row over the robots that saw it."""
        n = np.array([len(robot.split.labels) for robot in self.robots], float)
        states = [learner.weights() for learner in learners]
        mean = {
            name: np.average([s[name] for s in states], axis=0, weights=n).astype(np.float32)
            for name in states[0]
        }
        own = np.stack([robot.taps.counts for robot in self.robots]).astype(float)  # (robots, K)
        rows = np.stack([_padded(x.classifier(), len(self.benchmark.classes)) for x in learners])
        share = own / np.maximum(own.sum(0), 1)
        return mean, np.einsum("rk,rkd->kd", share, rows).astype(np.float32)

    # what answers

    def _merged(self, sent: list[Statistics]) -> tuple[Statistics, float]:
        received = [statistics.as_received() for statistics in sent]
        total = received[0][0]
        for statistics, _ in received[1:]:
            total = total + statistics
        return total, float(np.mean([size for _, size in received]))

    def _fast(self, taps: Statistics) -> np.ndarray:
        arrays = taps.ridge()
        x = (self._taps(self._test) - arrays["mean"]) * arrays["scale"]
        scores = x @ arrays["weights"][:, :-1].T + arrays["weights"][:, -1]
        return np.where(arrays["counts"] > 0, scores, -np.inf)

    def _slow(self, learner: Learner) -> np.ndarray:
        return np.asarray(learner.scores_many(self._features(learner)))

    def _both(self, taps: Statistics, learner: Learner) -> np.ndarray:
        features = self._features(learner)
        classifier = CombinedClassifier(taps.sums.shape[1], features.shape[1])
        classifier.ridge.restore(taps.ridge())
        classifier.rehearsed = learner.classifier()
        slots = np.arange(len(learner.features.memory))
        known = learner.features.at(len(learner.levels) - 1, slots, max_age_steps=0)
        means, last = classifier.means, np.array([len(self.benchmark.classes) - 1])
        means.sums, means.counts = pad_classes(means.sums, last), pad_classes(means.counts, last)
        means.learn_many(known, learner.features.memory.labels.astype(np.int64))
        return classifier.answer_many(self._taps(self._test), features)[0]

    # training

    def _trained(self, splits: list[Split]) -> Learner:
        learner = self._learner(splits)
        _steps(learner, _STEPS)
        return learner

    def _heard(self, sent: list[Split]) -> list[Learner]:
        """Train every robot on what it saw and on what the others sent."""
        return [
            self._trained([robot.split, *sent[:i], *sent[i + 1 :]])
            for i, robot in enumerate(self.robots)
        ]

    def _learner(self, splits: list[Split]) -> Learner:
        bundle, config = self.benchmark.bundle, self.config
        memory = LatentMemory(self.codec.record_bytes, config.memory_bytes, config.seed)
        learner = Learner(
            adaptive_blocks(bundle), bundle.levels, memory, self.codec,
            make_schedule("progressive", bundle.levels), config,
        )  # fmt: skip
        latents = np.concatenate([split.seen.latents for split in splits])
        labels = np.concatenate([split.labels for split in splits])
        order = np.random.default_rng(config.seed).permutation(len(labels))
        learner.learn_many(self.codec.encode(latents[order]), labels[order])
        return learner

    def _draw(self, statistics: Statistics, rng: np.random.Generator) -> Split:
        labels = np.repeat(np.flatnonzero(statistics.counts > 0), _DRAWN_EACH)
        latents = statistics.draw(labels, rng).reshape(-1, *self.benchmark.bundle.latent_shape)
        if not self.benchmark.bundle.manifest["latent_signed"]:
            latents = np.maximum(latents, 0)
        blank = self.benchmark.train.take(np.zeros(len(labels), np.int64))
        return replace(blank, seen=replace(blank.seen, latents=latents), labels=labels)

    def _features(self, learner: Learner) -> np.ndarray:
        """Return the held-out frames' features by a learner, kept until another one is asked."""
        if self._newest is None or self._newest[0] is not learner:
            self._newest = learner, blocks_output(learner.blocks, self._test.seen.latents)
        return self._newest[1]

    def _taps(self, split: Split) -> np.ndarray:
        return np.asarray(split.seen.taps[:, : self.benchmark.bundle.taps_width])

    def _row(self, sent: str, answers: str, n_bytes: float | None, scores: list[np.ndarray]) -> Row:
        right = [float((s.argmax(1) == self._test.labels).mean()) for s in scores]
        return {"sent": sent, "answers": answers, "bytes": n_bytes, "accuracies": right}


def _steps(learner: Learner, n: int) -> None:
    for _ in range(n):
        learner.step()


def _few(split: Split, each: int) -> Split:
    rows = [np.flatnonzero(split.labels == c)[:each] for c in np.unique(split.labels)]
    return split.take(np.concatenate(rows))


def _padded(rows: np.ndarray, n: int) -> np.ndarray:
    return np.pad(rows, ((0, n - len(rows)), (0, 0)))
