"""Contenders: everything a user could pick, on the same latents, taps and features.

Each sees a stream once, in chunks, and answers at any time. Knows scenarios, not how figures are
taken. Those that train blocks other than ours are in `rehearsers`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.datasets import Part
from benchmarks.feature_methods import FEATURE_METHODS
from benchmarks.scenarios import Task
from plr_edge.classifiers.class_means import unit
from plr_edge.config import LearningConfig
from plr_edge.runtime.prediction import Features
from plr_edge.runtime.session import Session
from plr_edge.stream import Frame

_BATCH = 250
_BLANK = np.zeros((1, 1, 3), np.uint8)


class TooSlow(Exception):
    """A method that would take hours on a scenario; its row says so."""


class Method(ABC):
    """A method that learns from a stream and answers with class indices.

    Attributes:
        n_taught: frames handed over.
        n_waiting: frames of these that it only gathered so far.
    """

    n_waiting = 0

    def __init__(self, task: Task, config: LearningConfig) -> None:
        self.task, self.config = task, config
        self.n_taught = 0

    @abstractmethod
    def learn(self, part: Part) -> None:
        """Learn a chunk."""

    @abstractmethod
    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Return class indices (n,), by the suffix of what answers; '' is the whole method."""

    @abstractmethod
    def costs(self) -> dict[str, float]:
        """Return multiply-adds spent on learning (`macs`) and bytes kept (`memory_bytes`)."""

    def finish(self) -> None:
        """Do what is left when the stream has ended."""
        return

    def new_experience(self) -> None:
        """Hear of a boundary; only methods whose papers need it make use of this."""
        return


class ClosedForm(Method):
    """A classifier over the feature of the exported network, or over the taps beside it."""

    def __init__(
        self,
        task: Task,
        config: LearningConfig,
        *,
        method: str,
        read: str = "feature",
        **tuned: Any,
    ) -> None:
        super().__init__(task, config)
        self._read = read
        width = self._x(task.test.seen).shape[1]
        self._classifier: Any = FEATURE_METHODS[method](width, **tuned)

    def learn(self, part: Part) -> None:
        """Learn a chunk; see `Method`."""
        self._classifier.learn_many(self._x(part.seen), part.labels)
        self.n_taught += len(part.labels)

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        return {"": self._classifier.scores_many(self._x(part.seen)).argmax(1)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        kept = {"memory_bytes": float(self._classifier.n_bytes)}
        macs = getattr(self._classifier, "macs", None)
        return kept if macs is None else {**kept, "macs": float(macs)}

    def _x(self, seen: Features) -> np.ndarray:
        return seen.features if self._read == "feature" else seen.taps


class PlrEdge(Method):
    """What `plr-edge adapt` does, with some settings changed.

    Answers as a whole, and with the rehearsed classifier alone (suffix `, no fast`).
    """

    def __init__(
        self, task: Task, config: LearningConfig, *, static_feature: bool = False, **changes: Any
    ) -> None:
        super().__init__(task, replace(config, **changes))
        self._static = static_feature
        bundle = task.bundle if static_feature else task.narrow
        self._bundle = bundle
        self.session = Session(bundle, None, self.config)

    def learn(self, part: Part) -> None:
        """Learn a chunk; see `Method`."""
        frames = [Frame(_BLANK, self.task.classes[y], 0, "") for y in part.labels]
        features = self.session.perception.features_of(part.seen.latents)
        self.session.observe_features(frames, self._own(replace(part.seen, features=features)))
        self.n_taught += len(frames)

    def finish(self) -> None:
        """Publish what was rehearsed last."""
        self.session.finish()

    def answers(self, part: Part) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        seen, session, known = part.seen, self.session, np.array(
            [self.task.classes.index(name) for name in self.session.learned.classes]
        )  # fmt: skip
        features = np.concatenate(
            [
                session.perception.features_of(seen.latents[i : i + _BATCH])
                for i in range(0, len(seen.latents), _BATCH)
            ]
        )
        own = self._own(replace(seen, features=features))
        scores, _ = session.learned.classifier.answer_many(own.taps, features)
        result = {"": known[scores.argmax(1)]}
        rows = session.learned.classifier.rehearsed
        if len(rows) and self.config.train_ratio > 0:
            result[", no fast"] = known[(unit(features) @ unit(rows).T).argmax(1)]
        return result

    def costs(self) -> dict[str, float]:
        """Return costs: training, the ridge's updates, and the second pass of a static feature."""
        width = self.session.learned.classifier.ridge.width + 1
        extra = self._bundle.manifest["frozen_macs"] - self.task.narrow.manifest["frozen_macs"]
        macs = self.session.learner.features.cost.macs + self.n_taught * (2 * width**2 + extra)
        kept = self.session.training.memory.n_bytes + 4 * width**2
        return {"macs": float(macs), "memory_bytes": float(kept)}

    def _own(self, seen: Features) -> Features:
        return seen if self._static else replace(seen, taps=seen.taps[:, : self._bundle.taps_width])


def contenders() -> Mapping[str, Callable[[Task, LearningConfig], Method]]:
    """Return every method by name; the ceiling `joint training` is the last."""
    from benchmarks import ar1, gaussian_rehearsal, raw_replay, rehearsers

    made: dict[str, Callable[[Task, LearningConfig], Method]] = {}
    for name in FEATURE_METHODS:
        made[name] = _with(ClosedForm, method=name)
    made["ridge + mid-level"] = _with(ClosedForm, method="ridge", read="taps")
    made["fast classifier"] = _with(PlrEdge, train_ratio=0.0)
    made["fast classifier, static"] = _with(PlrEdge, train_ratio=0.0, static_feature=True)
    made["naive fine-tuning"] = rehearsers.Naive
    made["raw replay, whole network"] = raw_replay.RawReplay
    made["AR1-like latent replay"] = ar1.Ar1
    made["REMIND-like (PQ latents)"] = rehearsers.remind
    made["internal replay"] = _with(PlrEdge, schedule="internal", **INTERNAL)
    made["plr (default budget)"] = _with(PlrEdge)
    made["plr (default budget), static"] = _with(PlrEdge, static_feature=True)
    made["plr"] = _with(PlrEdge, **PLR)
    made["plr, static"] = _with(PlrEdge, static_feature=True, **PLR)
    made["plr, generated"] = gaussian_rehearsal.Generated
    made["joint training"] = rehearsers.Joint
    return made


PLR = {"train_ratio": 1.48}
INTERNAL = {"train_ratio": 3.0, "blocks_lr": 0.001}
OURS = ("fast classifier", "plr")  # names of our settings begin so
SLOW = (
    "raw replay, whole network",
    "AR1-like latent replay",
    "REMIND-like (PQ latents)",
    "plr, generated",
)


def _with(cls: Callable[..., Method], **options: Any) -> Callable[..., Method]:
    def make(task: Task, config: LearningConfig, **tuned: Any) -> Method:
        return cls(task, config, **{**options, **tuned})

    return make
