"""What `plr-edge adapt` does, as a method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Method, batches
from benchmarks.methods.rehearsal import learner_macs
from benchmarks.scenarios import Benchmark
from plr_edge.classifiers.blending import Answers
from plr_edge.classifiers.class_means import unit
from plr_edge.config import LearningConfig
from plr_edge.generative.gaussian_memory import GaussianMemory
from plr_edge.runtime.prediction import Features
from plr_edge.runtime.session import Session
from plr_edge.stream import Frame

_BLANK = np.zeros((1, 1, 3), np.uint8)
PLR = {"train_ratio": 1.48}
INTERNAL = {"schedule": "internal", "train_ratio": 3.0, "blocks_lr": 0.001}


class PlrEdge(Method):
    """One pass of `plr-edge adapt` with some settings changed.

    Answers as a whole, and with the rehearsed classifier alone (variant `, no fast`).
    """

    def __init__(
        self, benchmark: Benchmark, config: LearningConfig, *, static: bool = False, **changes: Any
    ) -> None:
        super().__init__(benchmark, replace(config, **changes))
        self._bundle = benchmark.static_bundle if static else benchmark.bundle
        self.session = Session(self._bundle, None, self.config)

    def learn(self, split: Split) -> None:
        """Learn a chunk; see `Method`."""
        frames = [Frame(_BLANK, self.benchmark.classes[y], 0, "") for y in split.labels]
        self.session.observe_features(frames, self._seen(split))
        self.n_taught += len(frames)

    def finish(self) -> None:
        """Publish what was rehearsed last; see `Method`."""
        self.session.finish()

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        known, seen = self.known_classes(), self._seen(split)
        classifier = self.session.learned.classifier
        answers = classifier.answer_many(seen.taps, seen.features, None, seen.as_exported)
        result = {"": known[answers.probabilities.argmax(1)]}
        rows = classifier.rehearsed
        if len(rows) and self.config.train_ratio > 0:
            alone = unit(seen.features) @ unit(rows).T
            result[", no fast"] = known[alone.argmax(1)]
        return result

    def answer_many(self, split: Split) -> Answers:
        """Return what the product answers; see `CombinedClassifier.answer_many`."""
        seen = self._seen(split)
        classifier = self.session.learned.classifier
        return classifier.answer_many(seen.taps, seen.features, None, seen.as_exported)

    def known_classes(self) -> np.ndarray:
        """Return the benchmark's indices of the classes taught, in the order of the answers."""
        names = self.session.learned.classes
        return np.array([self.benchmark.classes.index(name) for name in names], np.int64)

    def costs(self) -> dict[str, float]:
        """Return costs: training, all closed forms, and the second pass of a static feature."""
        classifier = self.session.learned.classifier
        width, both = classifier.ridge.width + 1, classifier.mixing.moments.width
        frozen = [b.manifest["frozen_macs"] for b in (self._bundle, self.benchmark.bundle)]
        per_frame = 2 * width**2 + both**2 / 2 + frozen[0] - frozen[1]
        trained = learner_macs(self.session.learner) + classifier.mixing.fit_macs
        memory = self.session.training.memory
        trained += memory.macs if isinstance(memory, GaussianMemory) else 0
        macs = trained + self.n_taught * per_frame
        kept = memory.n_bytes + 4 * width**2 + 2 * both**2
        return {"macs": float(macs), "memory_bytes": float(kept)}

    def _seen(self, split: Split) -> Features:
        """Return what the bundle and the adapted blocks return for a split."""
        features_of = self.session.perception.features_of
        features = np.concatenate([features_of(x) for x in batches(split.seen.latents)])
        taps = split.seen.taps[:, : self._bundle.taps_width]
        exported = split.seen.features if self.session.learned.has_moved else None
        return replace(split.seen, taps=taps, features=features, as_exported=exported)
