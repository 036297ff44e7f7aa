"""Session: one process that answers and learns over a finite stream, deterministically.

Owns perception, the learner and the store, and introduces them to each other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import AdaptConfig
from plr_edge.errors import StateError
from plr_edge.export.split import split
from plr_edge.learner import Learner
from plr_edge.memory import LatentMemory
from plr_edge.runtime.perception import Perception, Prediction, Seen, check_state_fits
from plr_edge.schedule import make_schedule
from plr_edge.store import State, Store
from plr_edge.stream.base import Frame, check_label

_log = logging.getLogger(__name__)
_FIRST_PUBLISH = 64  # frames taught before the first generation
_MAX_STEPS_PER_CHUNK = 64


@dataclass
class History:
    """Prequential record: what was said to each labelled frame before it was learned.

    Attributes:
        labels: class index of each frame.
        predicted: class index answered, -1 for `unknown`.
    """

    labels: list[int] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)

    @property
    def accuracy(self) -> float | None:
        """Share answered rightly, first sights of a class included; None before the first."""
        if not self.labels:
            return None
        return float(np.mean(np.equal(self.labels, self.predicted)))


class Session:
    """Predict first, then learn: the main job."""

    def __init__(
        self, bundle: Bundle, state: str | Path | None = None, config: AdaptConfig | None = None
    ) -> None:
        """Start fresh, or go on from a state.

        Args:
            bundle: from `open_bundle`.
            state: directory of what is learned; None keeps it in memory only.
            config: how to learn.

        Raises:
            StateError: the state is damaged, in use, not writable or of another frozen part.
        """
        self.bundle, self.config = bundle, config or AdaptConfig()
        self.schedule = make_schedule(self.config.schedule, bundle.levels, self.config.step_costs)
        self.codec = bundle.codec(self.config.bits, self.config.pool)
        self.classes: list[str] = []
        self.history, self.positions = History(), dict[str, int]()
        self.n_taught, self.learn_s, self.save_s = 0, 0.0, 0.0
        self._credit_macs, self._next_publish = 0.0, float(_FIRST_PUBLISH)
        self._good_weights: Mapping[str, np.ndarray] = {}
        self._good_rehearsed: np.ndarray = np.zeros((0, bundle.feature_width), np.float32)
        self.store = Store(state) if state is not None else None
        try:
            saved = self.store.read() if self.store else None
            if saved:
                check_state_fits(bundle, saved, Path(str(state)))
            self._build(saved)
        except BaseException:
            self.close()
            raise

    def observe_many(self, frames: Sequence[Frame]) -> list[Prediction]:
        """Answer frames, learning each labelled one before the next is answered.

        The engines see the batch at once; class means take each label in before the next frame of
        the batch is answered, ridge and rehearsal at the end of the batch.

        Raises:
            LabelError: a label cannot be used; the batch is not learned.
        """
        for frame in frames:
            if frame.label is not None:
                check_label(frame.label)
        start, learned_s = time.perf_counter(), self.learn_s
        predictions = self.take(frames, self.perception.see(frames))
        answer_s = time.perf_counter() - start - (self.learn_s - learned_s)
        each_ms = answer_s * 1e3 / max(len(frames), 1)
        return [replace(prediction, latency_ms=each_ms) for prediction in predictions]

    def take(self, frames: Sequence[Frame], seen: Seen) -> list[Prediction]:
        """Do what `observe_many` does with frames that perception has already seen."""
        rows, labels = list[np.ndarray](), list[int]()
        for i, frame in enumerate(frames):
            feature = seen.features[i : i + 1]
            rows.append(self.classifier.means.scores_many(feature)[0])
            if frame.label is not None:
                labels.append(self._index_of(frame.label))
                self.classifier.means.learn_many(feature, np.array(labels[-1:]))
        cosines = np.full((len(frames), len(self.classes)), -1.0, np.float32)
        for i, row in enumerate(rows):
            cosines[i, : len(row)] = row
        predictions = self.perception.answer(frames, seen, cosines)
        answered = time.perf_counter()
        taught = [i for i, frame in enumerate(frames) if frame.label is not None]
        if taught:
            self.history.labels += labels
            self.history.predicted += [self._known_index(predictions[i].label) for i in taught]
            self._learn(seen.take(taught), np.array(labels))
        self.learn_s += time.perf_counter() - answered
        return predictions

    def publish(self) -> None:
        """Make a generation of what was rehearsed, and answer with it."""
        if not len(self.memory):
            return
        self._next_publish = max(self.n_taught * self.config.publish_growth, _FIRST_PUBLISH)
        self.classifier.settle()
        if sum(self.learner.cost.steps_per_level):
            self._publish_rehearsed()
        slots = np.arange(len(self.memory))
        features = self.learner.features_at(len(self.bundle.levels) - 1, slots)
        labels = self.memory.labels.astype(np.int64)
        self.classifier.refit_means(features, labels, self.config.unknown_quantile)

    def _publish_rehearsed(self) -> None:
        weights, rehearsed = self.learner.weights(), self.learner.classifier()
        if not all(np.isfinite(w).all() for w in [*weights.values(), rehearsed]):
            _log.error("training diverged; generation dropped, going on from the last good one")
            self.learner.restore(self._good_weights, self._good_rehearsed)
            return
        self._good_weights, self._good_rehearsed = weights, rehearsed
        self.classifier.rehearsed = rehearsed
        self.version += 1
        self.perception.publish(weights, self.version)

    def finish(self) -> None:
        """Publish what was rehearsed since the last generation, and save."""
        start = time.perf_counter()
        if self.n_taught:
            self.publish()
        self.learn_s += time.perf_counter() - start
        self.save()

    def save(self) -> None:
        """Write everything learned; nothing happens without a state directory.

        Raises:
            StateError: the disk refuses; the state before is still there.
        """
        if self.store is None or not len(self.memory):
            return
        start = time.perf_counter()
        memory, memory_facts = self.memory.to_arrays()
        facts = {
            "bundle": self.bundle.name,
            "frozen_sha256": self.bundle.frozen_sha256,
            "classes": self.classes,
            "codec": {"bits": self.config.bits, "pool": self.config.pool},
            "memory": memory_facts,
            "n_taught": self.n_taught,
            "next_publish": self._next_publish,
            "credit_macs": self._credit_macs,
            "version": self.version,
            "positions": self.positions,
            "schedule": {"name": self.schedule.name, "shares": self.schedule.shares},
            "cost": vars(self.learner.cost),
        }
        arrays = {
            "adaptive": self._good_weights,
            "classifier": self.classifier.to_arrays(),
            "ridge": self.classifier.ridge.learning_arrays(),
            "memory": memory,
            "trainer": {
                **self.learner.weights(),
                "classifier.rows": self.learner.classifier(),
                "classifier.prior": self.learner.prior.numpy(),
            },
            "history": {
                "labels": np.array(self.history.labels, np.int32),
                "predicted": np.array(self.history.predicted, np.int32),
            },
        }
        self._saved += 1
        self.store.write(self._saved, facts, arrays)
        self.save_s += time.perf_counter() - start

    def close(self) -> None:
        """Give the state's lock back."""
        if self.store is not None:
            self.store.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def classifier(self) -> CombinedClassifier:
        """What answers now."""
        return self.perception.classifier

    @property
    def perception_macs(self) -> int:
        """Multiply-adds of answering one frame, up to the classifier."""
        adaptive = sum(level.macs for level in self.bundle.levels[:-1])
        return int(self.bundle.manifest["frozen_macs"]) + adaptive

    def _build(self, saved: State | None) -> None:
        if saved:
            codec = saved.facts["codec"]
            if (codec["bits"], codec["pool"]) != (self.config.bits, self.config.pool):
                raise StateError(
                    f"the state keeps latents at {codec['bits']} bits and pool {codec['pool']}; "
                    "give the same --bits and --pool, or another --state"
                )
            self.memory = LatentMemory.from_arrays(
                saved.arrays["memory"], saved.facts["memory"], self.config.memory_bytes
            )
        else:
            self.memory = LatentMemory(
                self.codec.record_bytes, self.config.memory_bytes, self.config.seed
            )
        blocks = adaptive_blocks(self.bundle)
        self.learner = Learner(
            blocks, self.bundle.levels, self.memory, self.codec, self.schedule, self.config
        )
        classifier = CombinedClassifier(
            self.bundle.taps_width, self.bundle.feature_width, self.config.ridge_strength
        )
        self.perception = Perception(
            self.bundle, classifier, self.classes, n_threads=self.config.n_threads
        )
        self.version = self._saved = 0
        self._good_weights = self.learner.weights()
        self._good_rehearsed = self.learner.classifier()
        if saved:
            self._restore(saved)

    def _restore(self, saved: State) -> None:
        facts, arrays = saved.facts, saved.arrays
        self.classes.extend(facts["classes"])
        self.n_taught, self._next_publish = int(facts["n_taught"]), float(facts["next_publish"])
        self._credit_macs, self.version = float(facts["credit_macs"]), int(facts["version"])
        self._saved = saved.generation
        self.positions = dict(facts["positions"])
        self.history.labels = arrays["history"]["labels"].tolist()
        self.history.predicted = arrays["history"]["predicted"].tolist()
        self._good_weights = arrays["adaptive"]
        self._good_rehearsed = arrays["classifier"]["rehearsed"]
        self.classifier.restore(arrays["classifier"], arrays["ridge"])
        trainer = dict(arrays["trainer"])
        self.learner.restore(
            trainer, trainer.pop("classifier.rows"), trainer.pop("classifier.prior")
        )
        self.learner.cost = type(self.learner.cost)(**facts["cost"])
        if self.version:
            self.perception.publish(self._good_weights, self.version)

    def _learn(self, seen: Seen, labels: np.ndarray) -> None:
        self.classifier.learn_ridge(seen.taps, labels)
        self.learner.learn_many(self.codec.encode(seen.latents), labels, seen.features)
        self.n_taught += len(labels)
        self._credit_macs += len(labels) * self.config.train_ratio * self.perception_macs
        before = self.learner.cost.macs
        for _ in range(_MAX_STEPS_PER_CHUNK):
            if self._credit_macs - (self.learner.cost.macs - before) <= 0:
                break
            if self.learner.step() is None:
                break
        self._credit_macs -= self.learner.cost.macs - before
        if self.n_taught >= self._next_publish:
            self.publish()

    def _index_of(self, label: str) -> int:
        if label not in self.classes:
            self.classes.append(label)
        return self.classes.index(label)

    def _known_index(self, label: str) -> int:
        return self.classes.index(label) if label in self.classes else -1


def adaptive_blocks(bundle: Bundle) -> nn.Sequential:
    """Build the adaptive part of a bundle with the weights it was exported with."""
    from safetensors.torch import load

    level = logging.getLogger("plr_edge.backbones").level
    logging.getLogger("plr_edge.backbones").setLevel(logging.ERROR)  # random weights are replaced
    try:
        backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
    finally:
        logging.getLogger("plr_edge.backbones").setLevel(level)
    backbone.blocks = fold_batch_norm(backbone.blocks)
    _, adaptive = split(backbone, bundle.manifest["cut"])
    adaptive.load_state_dict(load(bundle.read("adaptive.safetensors")), strict=True)
    return adaptive
