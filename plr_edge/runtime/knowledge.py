"""Knowledge: what answers, and what was acknowledged; without torch.

Owns perception, the fast classifier, admission, the canary and the store. What trains the adaptive
part is a subclass's business: `Session` does it in this process, `Live` in another.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.class_means import SequentialScorer
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.replay.schedule import make_schedule
from plr_edge.runtime.holdout import HoldoutSet
from plr_edge.runtime.label_filter import LabelFilter
from plr_edge.runtime.labelled_batch import History, LabelledBatch, Undo, finite_rows
from plr_edge.runtime.perception import Features, Perception, Prediction
from plr_edge.runtime.publish_gate import Verdict
from plr_edge.runtime.validation import Candidate, Incumbent, Judged, judged
from plr_edge.store import CANARY, LEARNED, QUARANTINED, TRAIN, Label, Store, open_store
from plr_edge.stream.base import Frame

_log = logging.getLogger(__name__)


class Knowledge:
    """Answer and acknowledge; subclasses say how to train."""

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path | None,
        config: LearningConfig,
        engines: EngineConfig | None = None,
    ) -> None:
        """Open the state, and build what answers; nothing is recovered yet.

        Raises:
            StateError: the state is damaged, in use or not writable.
        """
        self.bundle, self.config = bundle, config
        self.engines = engines or EngineConfig()
        self.schedule = make_schedule(config.schedule, bundle.levels, config.step_costs)
        self.codec = bundle.codec(config.bits, config.pool)
        self.classes: list[str] = []
        self.history = History()
        self.n_taught, self.n_quarantined, self.version = 0, 0, 0
        self.verdict: Verdict | None = None
        self.fell_back = False  # to the factory: every generation is damaged
        self.share = 1.0  # of the time that judging may take
        self.admission = LabelFilter()
        self.canary = HoldoutSet(self.codec, bundle.taps_width, config.canary, config.seed)
        self.good_weights: Mapping[str, np.ndarray] = {}  # empty: those of the bundle
        self.good_rehearsed = np.zeros((0, bundle.feature_width), np.float32)
        self.store: Store | None = None
        if state is not None:
            self.store = open_store(state, label_bytes=config.label_bytes)
        try:
            classifier = CombinedClassifier(
                bundle.taps_width, bundle.feature_width, config.ridge_strength
            )
            self.perception = Perception(bundle, classifier, self.classes, self.engines)
        except BaseException:
            if self.store is not None:  # subclasses have nothing yet that they could close
                self.store.close()
            raise

    def close(self) -> None:
        """Give the state's lock back."""
        if self.store is not None:
            self.store.close()

    @property
    def classifier(self) -> CombinedClassifier:
        """What answers now."""
        return self.perception.classifier

    @property
    def perception_macs(self) -> int:
        """Multiply-adds of answering one frame, up to the classifier."""
        adaptive = sum(level.macs for level in self.bundle.levels[:-1])
        return int(self.bundle.manifest["frozen_macs"]) + adaptive

    def reset(self) -> None:
        """Forget everything that is not in the store."""
        config, bundle = self.config, self.bundle
        self.classes.clear()
        self.history, self.admission = History(), LabelFilter()
        self.n_taught = self.n_quarantined = self.version = 0
        self.verdict = None
        self.canary = HoldoutSet(self.codec, bundle.taps_width, config.canary, config.seed)
        self.good_weights = {}
        self.good_rehearsed = np.zeros((0, bundle.feature_width), np.float32)
        self.perception.classifier = CombinedClassifier(
            bundle.taps_width, bundle.feature_width, config.ridge_strength
        )
        self.perception.engine = self.perception.engine_of({})
        self.perception.version = 0

    def position(self, key: str) -> int:
        """Return where the labels of a stream that was interrupted end, 0 for a fresh one."""
        return int(self.store.facts.get("positions", {}).get(key, 0)) if self.store else 0

    def note(self, kind: str, text: str) -> None:
        """Keep an event in the log of the state."""
        if self.store:
            self.store.events.note(kind, text)

    # learning

    def answer(
        self, frames: Sequence[Frame], seen: Features, facts: Mapping[str, Any] | None = None
    ) -> tuple[list[Prediction], LabelledBatch | None]:
        """Answer frames, and make the labels among them durable.

        Class means learn each label before the next frame is compared to them.

        Args:
            frames: some with labels.
            seen: what perception made of them.
            facts: to keep with the labels.

        Returns:
            predictions, and what there is to learn.

        Raises:
            StateError: the disk refuses; nothing was learned.
        """
        before = Undo(self)
        try:
            cosines, labels = self._one_by_one(frames, seen)
            predictions = self.perception.answer(frames, seen, cosines)
            return predictions, self._acknowledged(seen, predictions, labels, facts)
        except BaseException:
            before.restore()
            raise

    def learn_fast(self, taught: LabelledBatch) -> None:
        """Let ridge and the canary learn what was acknowledged."""
        uses = np.array([label.use for label in taught.labels])
        for i in np.flatnonzero(uses == CANARY):
            seq, index = taught.labels[i].seq, int(taught.indices[i])
            self.canary.add(taught.records[i], taught.seen.taps[i], seq, index)
        train = uses == TRAIN
        if train.any():
            self.learn_ridge(taught.seen.taps[train], taught.indices[train])
        self.n_taught += len(taught.labels)

    def learn_ridge(self, taps: np.ndarray, labels: np.ndarray) -> None:
        """Let ridge learn a batch: (n, T) taps, (n,) class indices."""
        self.classifier.learn_ridge(taps, labels)

    def relearn(self, labels: Sequence[Label], fast_after: int) -> LabelledBatch:
        """Learn labels of the log again, from their latents.

        Args:
            labels: with their latents, in the order of teaching.
            fast_after: place in the log up to which all but training knows them already.
        """
        records = np.stack([label.record for label in labels if label.record is not None])
        taps = np.stack([label.taps for label in labels if label.taps is not None])
        latents = self.codec.decode(records)
        seen = Features(latents, taps.astype(np.float32), self.perception.features_of(latents))
        indices = np.array([self.index_of(label.name) for label in labels], np.int64)
        taught = LabelledBatch(seen, records, indices, list(labels))
        new = np.flatnonzero(taught.seqs > fast_after)
        for i in new:
            index, feature = int(indices[i]), seen.features[i : i + 1]
            self.canary.wants(index)
            if labels[i].use == TRAIN:
                self.admission.accept(self.classifier.means.scores_many(feature)[0], index)
                self.classifier.means.learn_many(feature, indices[i : i + 1])
        if len(new):
            self.learn_fast(taught.take(new))
        return taught

    def index_of(self, name: str) -> int:
        """Return the index of a class, adding it if it is new."""
        if name not in self.classes:
            self.classes.append(name)
        return self.classes.index(name)

    # publishing

    def exam(self) -> Incumbent:
        """Return what candidates are held against now."""
        latents, taps = self.canary.read()
        classifier = copy.copy(self.classifier)
        classifier.ridge, classifier.means = copy.copy(classifier.ridge), classifier.means.copy()
        return Incumbent(classifier, self.perception.engine, latents, taps, self.canary.labels)

    def judged(self, candidate: Candidate, exam: Incumbent) -> Judged:
        """Let the canary judge a candidate; touches nothing, so that any thread may do it."""
        return judged(candidate, exam, self.perception.engine_of, lambda: self.share)

    def swap_in(self, judged: Judged) -> None:
        """Answer with a candidate that passed, from the next frame on."""
        self.verdict = judged.verdict
        candidate, now = judged.candidate, self.classifier
        now.take_means(candidate.means, candidate.unknown_below)  # and classes taught since
        if judged.engine is not None and candidate.weights is not None:
            now.rehearsed = candidate.rehearsed
            self.version += 1
            self.fell_back = False
            self.perception.engine, self.perception.version = judged.engine, self.version
            self.good_weights = candidate.weights
            self.good_rehearsed = candidate.rehearsed

    def drop(self, reason: str) -> None:
        """Say that a generation is not published."""
        _log.error("generation dropped, going on from the last good one: %s", reason)
        self.note("dropped", reason)

    # inside

    def _one_by_one(
        self, frames: Sequence[Frame], seen: Features
    ) -> tuple[np.ndarray, dict[int, Label]]:
        """Compare each frame to class means that have learned the labels before it.

        Returns:
            cosines: (n, K) float32.
            labels: by frame, still without latents; frames that are not finite have none.
        """
        rows, labels = list[np.ndarray](), dict[int, Label]()
        finite, walk = finite_rows(seen), SequentialScorer(self.classifier.means, seen.features)
        for i, frame in enumerate(frames):
            row = walk.scores(i)
            rows.append(row)
            if frame.label is None or not finite[i]:
                continue
            known = frame.label in self.classes
            status, use = LEARNED, TRAIN
            if known and self.admission.suspects(row, self.classes.index(frame.label)):
                status = QUARANTINED
            else:
                index = self.index_of(frame.label)
                use = CANARY if self.canary.wants(index) else TRAIN
                if use == TRAIN:
                    self.admission.accept(row, index)
                    walk.learn(i, index)
            labels[i] = Label(
                name=frame.label, predicted="", source=frame.source, time_ns=time.time_ns(),
                status=status, use=use,
            )  # fmt: skip
        cosines = np.full((len(frames), len(self.classes)), -1.0, np.float32)
        for i in np.flatnonzero(finite):
            cosines[i, : len(rows[i])] = rows[i]
        if not all(finite):
            self.note("not finite", f"{len(frames) - sum(finite)} frames were not learned")
        return cosines, labels

    def _acknowledged(
        self,
        seen: Features,
        predictions: Sequence[Prediction],
        labels: dict[int, Label],
        facts: Mapping[str, Any] | None,
    ) -> LabelledBatch | None:
        """Put the labels of a batch on disk; returns what there is to learn of them."""
        if not labels:
            return None
        rows = list(labels)
        own = seen.take(rows)
        records, taps = self.codec.encode(own.latents), own.taps.astype(np.float16)
        whole = [
            replace(labels[i], predicted=predictions[i].label, record=records[n], taps=taps[n])
            for n, i in enumerate(rows)
        ]
        whole = [  # what the whole classifier recognises is no mistake
            replace(label, status=LEARNED) if label.predicted == label.name else label
            for label in whole
        ]
        seqs = [len(self.history.labels) + 1 + n for n in range(len(whole))]
        if self.store:
            seqs = self.store.teach(whole, **(facts or {}))
        whole = [replace(label, seq=seq) for label, seq in zip(whole, seqs, strict=True)]
        self.history.add(
            [self._known_index(label.name) for label in whole],
            [self._known_index(label.predicted) for label in whole],
        )
        learned = np.flatnonzero([label.status == LEARNED for label in whole])
        self.n_quarantined += len(whole) - len(learned)
        own = replace(own, taps=taps.astype(np.float32))
        indices = np.array([self._known_index(label.name) for label in whole], np.int64)
        return LabelledBatch(own, records, indices, whole).take(learned)

    def _known_index(self, label: str) -> int:
        return self.classes.index(label) if label in self.classes else -1
