"""Session: one process that answers and learns over a finite stream, deterministically.

Owns perception, the learner, the canary and the store, and introduces them to each other. What was
acknowledged is on disk before it is learned; weights follow when there is time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from plr_edge.admission import Admission
from plr_edge.backbones import BACKBONES, load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import AdaptConfig
from plr_edge.errors import BundleError
from plr_edge.export.split import split
from plr_edge.gate import Verdict, judge
from plr_edge.learner import Learner
from plr_edge.memory import LatentMemory
from plr_edge.runtime import saving
from plr_edge.runtime.canary import SEQ_BYTES, Canary, with_seq
from plr_edge.runtime.perception import Perception, Prediction, Seen
from plr_edge.schedule import make_schedule
from plr_edge.store import CANARY, LEARNED, QUARANTINED, TRAIN, Label, Store
from plr_edge.stream.base import Frame, check_label
from plr_edge.tensors import read_tensors

_log = logging.getLogger(__name__)
_FIRST_PUBLISH = 64  # frames taught before the first generation
_MAX_STEPS_PER_CHUNK = 64
_BATCH = 64


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
        """Start fresh, or go on from a state: its newest generation, then the labels after it.

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
        self.history = History()
        self.n_taught, self.n_quarantined, self.learn_s, self.save_s = 0, 0, 0.0, 0.0
        self.verdict: Verdict | None = None
        self.good_weights: Mapping[str, np.ndarray] = {}
        self.credit_macs, self.next_publish, self.version = 0.0, float(_FIRST_PUBLISH), 0
        self.admission = Admission()
        self.store: Store | None = None
        if state is not None:
            self.store = Store(state, label_bytes=self.config.label_bytes)
        try:
            self._build()
            if self.store:
                saving.recover(self, self.store)
        except BaseException:
            self.close()
            raise

    def observe_many(
        self, frames: Sequence[Frame], positions: Mapping[str, int] | None = None
    ) -> list[Prediction]:
        """Answer frames, learning each labelled one before the next is answered.

        When this returns, every label among them survives any crash. The engines see the batch at
        once; class means take each label in before the next frame of the batch is answered, ridge
        and rehearsal at the end of the batch.

        Args:
            frames: some with labels.
            positions: in streams, to keep with the labels.

        Raises:
            LabelError: a label cannot be used; the batch is not learned.
            StateError: the disk refuses; the batch is not learned, and the session can go on.
        """
        for frame in frames:
            if frame.label is not None:
                check_label(frame.label)
        start, learned_s = time.perf_counter(), self.learn_s
        predictions = self.take(frames, self.perception.see(frames), positions)
        answer_s = time.perf_counter() - start - (self.learn_s - learned_s)
        each_ms = answer_s * 1e3 / max(len(frames), 1)
        return [replace(prediction, latency_ms=each_ms) for prediction in predictions]

    def take(
        self, frames: Sequence[Frame], seen: Seen, positions: Mapping[str, int] | None = None
    ) -> list[Prediction]:
        """Do what `observe_many` does with frames that perception has already seen."""
        before = saving.Undo(self)
        try:
            cosines, labels = self._take_one_by_one(frames, seen)
            predictions = self.perception.answer(frames, seen, cosines)
            answered = time.perf_counter()
            if labels:
                taught = self._acknowledge(frames, seen, predictions, labels, positions)
        except BaseException:
            before.restore()
            raise
        if labels:
            self._learn(taught)
        self.learn_s += time.perf_counter() - answered
        return predictions

    def publish(self) -> None:
        """Make a generation of what was rehearsed, and answer with it if the canary agrees."""
        if not len(self.memory):
            return
        self.next_publish = max(self.n_taught * self.config.publish_growth, _FIRST_PUBLISH)
        self.classifier.settle()
        trained = sum(self.learner.cost.steps_per_level) > 0
        weights, rehearsed = self.learner.weights(), self.learner.classifier()
        if trained and not all(np.isfinite(w).all() for w in [*weights.values(), rehearsed]):
            self._drop("training diverged: a weight is not finite")
            return
        old = saving.Undo(self)
        latents, taps = self.canary.read()
        before = self._answers(latents, taps)
        if trained:
            self.classifier.rehearsed = rehearsed
            self.perception.publish(weights, self.version + 1)
        slots = np.arange(len(self.memory))
        features = self.learner.features_at(len(self.bundle.levels) - 1, slots)
        labels = self.memory.labels.astype(np.int64)
        self.classifier.refit_means(features, labels, self.config.unknown_quantile)
        self.verdict = judge(self.canary.labels, before, self._answers(latents, taps))
        if not self.verdict.passed:
            old.restore()
            self._drop(self.verdict.reason)
        elif trained:
            self.version += 1
            self.good_weights, self.good_rehearsed = weights, rehearsed

    def finish(self) -> None:
        """Publish what was rehearsed since the last generation, and save."""
        start = time.perf_counter()
        if self.n_taught:
            self.publish()
        self.learn_s += time.perf_counter() - start
        self.save("at the end")

    def save(self, reason: str = "on time", *, within_budget: bool = False) -> None:
        """Write a generation; nothing happens without a state directory.

        Labels are safe without it: it only saves the time to learn them again after a crash.

        Args:
            reason: for the log.
            within_budget: do nothing where today's budget of bytes written is spent.

        Raises:
            StateError: the disk refuses; the state before is still there.
        """
        if self.store is None or not len(self.memory):
            return
        if within_budget and self.store.written_today > self.config.write_bytes_per_day:
            return
        start = time.perf_counter()
        saving.save(self, self.store, reason)
        self.save_s += time.perf_counter() - start

    def position(self, key: str) -> int:
        """Return where the labels of a stream that was interrupted end, 0 for a fresh one."""
        return int(self.store.get("positions", {}).get(key, 0)) if self.store else 0

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

    def replay(self, labels: Sequence[Label]) -> None:
        """Learn labels of the log again, from their latents."""
        records = np.stack([label.record for label in labels if label.record is not None])
        taps = np.stack([label.taps for label in labels if label.taps is not None])
        latents = self.codec.decode(records)
        seen = Seen(latents, taps.astype(np.float32), self.perception.features_of(latents))
        indices = []
        for i, label in enumerate(labels):
            index = self._index_of(label.name)
            self.canary.wants(index)
            if label.use == TRAIN:
                feature = seen.features[i : i + 1]
                self.admission.accept(self.classifier.means.scores_many(feature)[0], index)
                self.classifier.means.learn_many(feature, np.array([index]))
            indices.append(index)
        self._learn(_Taught(seen, records, np.array(indices), list(labels)))

    def _build(self) -> None:
        record_bytes = self.codec.record_bytes + SEQ_BYTES
        self.memory = LatentMemory(record_bytes, self.config.memory_bytes, self.config.seed)
        self.canary = Canary(
            self.codec, self.bundle.taps_width, self.config.canary, self.config.seed
        )
        self.learner = Learner(
            adaptive_blocks(self.bundle, allow_code=self.config.allow_code),
            self.bundle.levels, self.memory, self.codec, self.schedule, self.config,
        )  # fmt: skip
        classifier = CombinedClassifier(
            self.bundle.taps_width, self.bundle.feature_width, self.config.ridge_strength
        )
        self.perception = Perception(
            self.bundle, classifier, self.classes, n_threads=self.config.n_threads
        )
        self.good_weights = self.learner.weights()
        self.good_rehearsed = self.learner.classifier()

    def _take_one_by_one(
        self, frames: Sequence[Frame], seen: Seen
    ) -> tuple[np.ndarray, dict[int, Label]]:
        """Let class means learn each label before the next frame is compared to them.

        Returns:
            cosines: (n, K) float32.
            labels: by frame, still without latents; frames that are not finite have none.
        """
        rows, labels = list[np.ndarray](), dict[int, Label]()
        finite = _finite_rows(seen)
        for i, frame in enumerate(frames):
            feature = seen.features[i : i + 1]
            row = self.classifier.means.scores_many(feature)[0]
            rows.append(row)
            if frame.label is None or not finite[i]:
                continue
            known = frame.label in self.classes
            status, use = LEARNED, TRAIN
            if known and self.admission.suspects(row, self.classes.index(frame.label)):
                status = QUARANTINED
            else:
                index = self._index_of(frame.label)
                use = CANARY if self.canary.wants(index) else TRAIN
                if use == TRAIN:
                    self.admission.accept(row, index)
                    self.classifier.means.learn_many(feature, np.array([index]))
            labels[i] = Label(
                name=frame.label, predicted="", source=frame.source, time_ns=time.time_ns(),
                status=status, use=use,
            )  # fmt: skip
        cosines = np.full((len(frames), len(self.classes)), -1.0, np.float32)
        for i, row in enumerate(rows):
            cosines[i, : len(row)] = np.where(finite[i], row, -1.0)
        if not all(finite):
            self._note("not finite", f"{len(frames) - sum(finite)} frames were not learned")
        return cosines, labels

    def _acknowledge(
        self,
        frames: Sequence[Frame],
        seen: Seen,
        predictions: Sequence[Prediction],
        labels: dict[int, Label],
        positions: Mapping[str, int] | None,
    ) -> _Taught:
        """Put the labels of a batch on disk; returns what there is to learn of them."""
        rows = list(labels)
        own = seen.take(rows)
        records = self.codec.encode(own.latents)
        taps = own.taps.astype(np.float16)
        whole = [
            replace(labels[i], predicted=predictions[i].label, record=records[n], taps=taps[n])
            for n, i in enumerate(rows)
        ]
        whole = [  # what the whole classifier recognises is no mistake
            replace(label, status=LEARNED) if label.predicted == label.name else label
            for label in whole
        ]
        first = len(self.history.labels) + 1
        seqs = list(range(first, first + len(whole)))
        if self.store:
            facts = {} if positions is None else {"positions": dict(positions)}
            seqs = self.store.teach(whole, **facts)
        whole = [replace(label, seq=seq) for label, seq in zip(whole, seqs, strict=True)]
        self.history.labels += [self._known_index(label.name) for label in whole]
        self.history.predicted += [self._known_index(label.predicted) for label in whole]
        learned = [n for n, label in enumerate(whole) if label.status == LEARNED]
        self.n_quarantined += len(whole) - len(learned)
        own = replace(own, taps=taps.astype(np.float32))
        indices = np.array([self._known_index(whole[n].name) for n in learned], np.int64)
        return _Taught(own.take(learned), records[learned], indices, [whole[n] for n in learned])

    def _learn(self, taught: _Taught) -> None:
        uses = np.array([label.use for label in taught.labels])
        seqs = np.array([label.seq for label in taught.labels], np.int64)
        for i in np.flatnonzero(uses == CANARY):
            self.canary.add(
                taught.records[i], taught.seen.taps[i], int(seqs[i]), int(taught.indices[i])
            )
        train = np.flatnonzero(uses == TRAIN)
        if len(train):
            seen, indices = taught.seen.take(train), taught.indices[train]
            self.classifier.learn_ridge(seen.taps, indices)
            records = with_seq(taught.records[train], seqs[train])
            self.learner.learn_many(records, indices, seen.features)
        n = len(taught.labels)
        self.n_taught += n
        self.credit_macs += n * self.config.train_ratio * self.perception_macs
        before = self.learner.cost.macs
        for _ in range(_MAX_STEPS_PER_CHUNK):
            if self.credit_macs - (self.learner.cost.macs - before) <= 0:
                break
            if self.learner.step() is None:
                break
        self.credit_macs -= self.learner.cost.macs - before
        if self.learner.diverged:
            self._drop("training diverged: a loss is not finite")
        if self.n_taught >= self.next_publish:
            self.publish()

    def _answers(self, latents: np.ndarray, taps: np.ndarray) -> np.ndarray:
        """Return the class index (n,) that answers now for each canary."""
        if not len(latents):
            return np.zeros(0, np.int64)
        batches = range(0, len(latents), _BATCH)
        features = [self.perception.features_of(latents[i : i + _BATCH]) for i in batches]
        return self.classifier.answer_many(taps, np.concatenate(features))[0].argmax(1)

    def _drop(self, reason: str) -> None:
        """Go on from the last good generation."""
        _log.error("generation dropped, going on from the last good one: %s", reason)
        self._note("dropped", reason)
        self.learner.restore(self.good_weights, self.good_rehearsed)

    def _note(self, kind: str, text: str) -> None:
        if self.store:
            self.store.note(kind, text)

    def _index_of(self, label: str) -> int:
        if label not in self.classes:
            self.classes.append(label)
        return self.classes.index(label)

    def _known_index(self, label: str) -> int:
        return self.classes.index(label) if label in self.classes else -1


@dataclass(frozen=True)
class _Taught:
    """Labels of a batch that are to be learned: (n, ...) each."""

    seen: Seen
    records: np.ndarray
    indices: np.ndarray
    labels: list[Label]


def _finite_rows(seen: Seen) -> list[bool]:
    parts = (seen.latents, seen.taps, seen.features)
    each = [np.isfinite(part.reshape(len(part), -1)).all(1) for part in parts]
    return [bool(x) for x in np.logical_and.reduce(each)]


def adaptive_blocks(bundle: Bundle, *, allow_code: bool = False) -> nn.Sequential:
    """Build the adaptive part of a bundle with the weights it was exported with.

    Raises:
        BundleError: that takes code that the bundle only names, and nobody vouches for it.
    """
    name = bundle.manifest["backbone"]
    if name not in BACKBONES and not (allow_code or bundle.trusted):
        raise BundleError(
            f"{bundle.path} names code to import ({name[:60]}); if you trust it, add --allow-code, "
            "or sign it and add --trust"
        )
    import torch

    level = logging.getLogger("plr_edge.backbones").level
    logging.getLogger("plr_edge.backbones").setLevel(logging.ERROR)  # random weights are replaced
    try:
        backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
    finally:
        logging.getLogger("plr_edge.backbones").setLevel(level)
    backbone.blocks = fold_batch_norm(backbone.blocks)
    _, adaptive = split(backbone, bundle.manifest["cut"])
    arrays = read_tensors(bundle.read("adaptive.safetensors"))
    adaptive.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=True)
    return adaptive
