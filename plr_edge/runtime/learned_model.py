"""LearnedModel: everything that a robot has learned, as one value. NumPy only.

`Session` and the running robot each have one. A field says by its metadata how a state on disk
holds it, so that copying, saving and restoring need no list of fields.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.statistics_only import without_class
from plr_edge.config import LearningConfig
from plr_edge.engines import Engine
from plr_edge.runtime.holdout import HoldoutSet
from plr_edge.runtime.labelled_batch import History, LabelledBatch
from plr_edge.runtime.model_state import (
    CLASSIFIER,
    HOLDOUT,
    LABEL_FILTER,
    NOT_STORED,
    VERDICT,
    WEIGHTS,
    ModelState,
    json_value,
)
from plr_edge.runtime.prediction import Features
from plr_edge.runtime.publish_gate import Verdict
from plr_edge.runtime.quarantine import LabelFilter
from plr_edge.runtime.validation import Evaluation, Incumbent
from plr_edge.store import CANARY, TRAIN, Label

_MOVED = "classes classifier history version n_taught n_quarantined verdict".split()
LearnStatistics = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
Extract = Callable[[np.ndarray, np.ndarray], Features]


@dataclass(kw_only=True)
class LearnedModel:
    """Everything that was learned.

    A learned field is added here and nowhere else. Its metadata says how it is stored. A mutable
    value needs a method `copy`. It may have a method `draft`, see `LearnedModel.draft`.

    Attributes:
        classes: class names by index.
        classifier: scores the classes.
        label_filter: decides which labels look like mistakes.
        holdout: labels that candidates are evaluated with.
        weights: weights of the adaptive part by name. Empty stands for those of the bundle. They
            are replaced and never modified.
        version: number of published candidates. At 0 the exported network answers.
        has_moved: whether the weights of the adaptive part are others than those of the bundle.
        n_taught: number of labels learned.
        n_quarantined: number of labels quarantined since the start.
        history: what was answered to each label before it was learned. Rebuilt from the label log.
        verdict: verdict on the last candidate since the start.
        fell_back: whether no generation could be read, so that the exported network answers until
            a candidate is published.
    """

    classes: list[str] = field(default_factory=list, metadata=json_value("classes"))
    classifier: CombinedClassifier = field(metadata=CLASSIFIER)
    label_filter: LabelFilter = field(default_factory=LabelFilter, metadata=LABEL_FILTER)
    holdout: HoldoutSet = field(metadata=HOLDOUT)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict, metadata=WEIGHTS)
    version: int = field(default=0, metadata=json_value("version"))
    has_moved: bool = field(default=False, metadata=json_value("has_moved"))
    n_taught: int = field(default=0, metadata=json_value("n_taught"))
    n_quarantined: int = field(default=0, metadata=NOT_STORED)
    history: History = field(default_factory=History, metadata=NOT_STORED)
    verdict: Verdict | None = field(default=None, metadata=VERDICT)
    fell_back: bool = field(default=False, metadata=NOT_STORED)

    @classmethod
    def blank(cls, bundle: Bundle, config: LearningConfig) -> LearnedModel:
        """Return a model that has learned nothing yet."""
        codec = bundle.codec(config.bits, config.pool)
        classifier = CombinedClassifier(
            bundle.taps_width,
            bundle.feature_width,
            config.ridge_strength,
            tap_shapes=bundle.tap_shapes,
            false_unknown=config.false_unknown,
        )
        classifier.mixing.keeps_samples = config.keeps_samples
        holdout = HoldoutSet(
            codec,
            bundle.taps_width,
            config.canary,
            config.seed,
            keeps_samples=config.keeps_samples,
        )
        return cls(classifier=classifier, holdout=holdout)

    # as a value

    def copy(self) -> LearnedModel:
        """Return an independent copy. Nothing may learn on another thread meanwhile."""
        return replace(self, **{f.name: _copied(getattr(self, f.name)) for f in fields(self)})

    def draft(self) -> LearnedModel:
        """Return a copy that can acknowledge labels on another thread, to replace this one.

        It shares with this model what acknowledging does not change and is large: the ridge
        classifier, which may be learning meanwhile, and the entries of the hold-out set.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self, **{n: v.draft() if hasattr(v, "draft") else _copied(v) for n, v in values.items()}
        )

    def to_state(self) -> ModelState:
        """Return what a generation on disk holds of this model."""
        metadata: dict[str, Any] = {}
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for f in fields(self):
            own = f.metadata["stored"].write(getattr(self, f.name))
            metadata |= own.metadata
            for group, members in own.arrays.items():
                arrays.setdefault(group, {}).update(members)
        return ModelState(metadata, arrays)

    @classmethod
    def from_state(cls, state: ModelState, bundle: Bundle, config: LearningConfig) -> LearnedModel:
        """Restore what `to_state` returned.

        Raises:
            StateError: the arrays do not fit the bundle.
        """
        blank = cls.blank(bundle, config)
        return replace(
            blank,
            **{
                f.name: f.metadata["stored"].read(getattr(blank, f.name), state)
                for f in fields(cls)
            },
        )

    @property
    def keeps_samples(self) -> bool:
        """Whether a state may hold samples, and not only statistics of them."""
        return self.holdout.keeps_samples

    def without_class(self, name: str) -> LearnedModel:
        """Return a model that never met a class but for its part in the covariance of all."""
        index = self.index_of(name)
        return replace(
            self,
            classes=[one for one in self.classes if one != name],
            classifier=without_class(self.classifier, index),
            label_filter=self.label_filter.without_class(index),
            holdout=self.holdout.without_class(index),
            n_taught=self.n_taught - self.holdout.n_offered(index),
        )

    # learning

    def index_of(self, name: str) -> int:
        """Return the index of a class, adding it if it is new."""
        if name not in self.classes:
            self.classes.append(name)
        return self.classes.index(name)

    def known_index(self, name: str) -> int:
        """Return the index of a class, -1 for one that is not known."""
        return self.classes.index(name) if name in self.classes else -1

    def learn(self, batch: LabelledBatch, learn_statistics: LearnStatistics | None = None) -> None:
        """Learn acknowledged labels: hold some out, and let ridge learn the others.

        Class means and label filter have learned them before, see `acknowledge`.

        Args:
            batch: the labels.
            learn_statistics: see `CombinedClassifier.learn_statistics`. It may learn them later,
                in the order of the calls. The classifier does it at once by default.
        """
        for i, label in enumerate(batch.labels):
            if label.use == CANARY:
                taps, index = batch.features.taps[i], int(batch.indices[i])
                self.holdout.add(batch.records[i], taps, label.seq, index)
        train = batch.to_train()
        if train.labels:
            learn_statistics = learn_statistics or self.classifier.learn_statistics
            features = train.features
            learn_statistics(features.taps, features.exported, train.indices)
        self.n_taught += len(batch.labels)

    def relearn(
        self,
        labels: Sequence[Label],
        after: int,
        extract: Extract,
        learn_statistics: LearnStatistics | None = None,
    ) -> LabelledBatch:
        """Learn labels of the log again, from their latents.

        Args:
            labels: labels with latents, in the order of teaching.
            after: number in the label log up to which this model knows them already.
            extract: returns the features of latents (n, *latent shape) and taps (n, T).
            learn_statistics: see `learn`.

        Returns:
            All of them, for training, which may lag behind.
        """
        records = np.stack([label.record for label in labels if label.record is not None])
        taps = np.stack([label.taps for label in labels if label.taps is not None])
        latents = self.holdout.codec.decode(records)
        features = extract(latents, taps.astype(np.float32))
        indices = np.array([self.index_of(label.name) for label in labels], np.int64)
        batch = LabelledBatch(features, records, indices, list(labels))
        new = batch.after(after)
        means = self.classifier.means
        for i, label in enumerate(new.labels):
            index, feature = int(new.indices[i]), new.features.features[i : i + 1]
            self.holdout.offer(index)
            if label.use == TRAIN:
                self.label_filter.update(means.scores_many(feature)[0], index)
                means.learn_many(feature, new.indices[i : i + 1])
        if new.labels:
            self.learn(new, learn_statistics)
        return batch

    # publishing

    def incumbent(self, engine: Engine, exported_engine: Callable[[], Engine]) -> Incumbent:
        """Return what candidates are compared with: this model, answering with an engine.

        Args:
            engine: the adaptive part with the weights of this model.
            exported_engine: returns it with the weights of the bundle.
        """
        latents, taps = self.holdout.read()
        classifier = self.classifier.draft()
        classifier.ridge = copy.copy(classifier.ridge)
        classifier.mixing = copy.copy(classifier.mixing)
        return Incumbent(
            classifier=classifier,
            engine=engine,
            exported_engine=exported_engine,
            has_moved=self.has_moved,
            latents=latents,
            taps=taps,
            labels=self.holdout.labels,
        )

    def publish(self, evaluation: Evaluation) -> None:
        """Answer with a candidate that passed; its engine must replace the one in use.

        Classes taught since the candidate was made are kept.
        """
        candidate = evaluation.candidate
        self.verdict = evaluation.verdict
        self.classifier.replace_means(candidate.means, candidate.unknown_below)
        if evaluation.engine is not None and candidate.weights is not None:
            self.classifier.rehearsed = candidate.rehearsed
            self.classifier.beside_rehearsed = evaluation.beside_rehearsed
            self.weights, self.has_moved = candidate.weights, candidate.has_moved
            self.version += 1
            self.fell_back = False


class MovedNames:
    """What a session had itself in 0.1, and its `learned` has now."""

    learned: LearnedModel

    def __getattr__(self, name: str) -> Any:
        """Return it, with a warning."""
        if name not in _MOVED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warnings.warn(
            f"Session.{name} is deprecated; use Session.learned.{name}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(self.learned, name)


def _copied(value: Any) -> Any:
    return value.copy() if hasattr(value, "copy") else value
