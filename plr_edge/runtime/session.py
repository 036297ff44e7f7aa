"""Session: one process that answers and learns over a finite stream, deterministically.

Trains the adaptive part in the same process, between batches. What was acknowledged is on disk
before it is learned; weights follow when there is time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import AdaptConfig, EngineConfig, LearningConfig
from plr_edge.errors import StateError
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.level_features import TrainingCost
from plr_edge.runtime import checkpoint as saving
from plr_edge.runtime.holdout import SEQ_BYTES, with_seq
from plr_edge.runtime.knowledge import Knowledge
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.perception import Features, Prediction
from plr_edge.runtime.validation import Candidate
from plr_edge.store import TRAIN
from plr_edge.stream.base import Frame, check_label

_MANY = 64  # labels
_FIRST_PUBLISH = 64  # frames taught before the first generation
_MAX_STEPS_PER_CHUNK = 64


class Session(Knowledge):
    """Predict first, then learn: the main job."""

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path | None = None,
        config: LearningConfig | None = None,
        engines: EngineConfig | None = None,
    ) -> None:
        """Start fresh, or go on from a state: its newest generation, then the labels after it.

        Args:
            bundle: from `open_bundle`.
            state: directory of what is learned; None keeps it in memory only.
            config: how to learn.
            engines: what the networks run on.

        Raises:
            StateError: the state is damaged, in use, not writable or of another frozen part.
        """
        if isinstance(config, AdaptConfig):
            config, engines = config.split()
        super().__init__(bundle, state, config or LearningConfig(), engines)
        self.learn_s, self.save_s = 0.0, 0.0
        self.credit_macs, self.next_publish = 0.0, float(_FIRST_PUBLISH)
        try:
            self._build()
            if self.store:
                n_missed = saving.recover(self, self.store)
                if n_missed >= _MANY:  # so that a loop of crashes does not learn them each time
                    with suppress(StateError):
                        self.save("after recovery", within_budget=True)
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
        self, frames: Sequence[Frame], seen: Features, positions: Mapping[str, int] | None = None
    ) -> list[Prediction]:
        """Do what `observe_many` does with frames that perception has already seen."""
        facts = {} if positions is None else {"positions": dict(positions)}
        predictions, taught = self.answer(frames, seen, facts)
        answered = time.perf_counter()
        if taught:
            self.learn_fast(taught)
            self.learn_slow(taught)
        self.learn_s += time.perf_counter() - answered
        return predictions

    def learn_slow(self, taught: LabelledBatch) -> None:
        """Take labels into the latent memory, and train as far as the credit goes."""
        train = np.flatnonzero([label.use == TRAIN for label in taught.labels])
        if len(train):
            own = taught.take(train)
            records = with_seq(own.records, own.seqs)
            self.learner.learn_many(records, own.indices, own.seen.features)
        self.credit_macs += len(taught.labels) * self.config.train_ratio * self.perception_macs
        cost = self.learner.features.cost
        before = cost.macs
        for _ in range(_MAX_STEPS_PER_CHUNK):
            if self.credit_macs - (cost.macs - before) <= 0:
                break
            if self.learner.step() is None:
                break
        self.credit_macs -= cost.macs - before
        if self.learner.diverged:
            self.drop("training diverged: a loss is not finite")
        if self.n_taught >= self.next_publish:
            self.publish()

    def publish(self) -> None:
        """Make a generation of what was rehearsed, and answer with it if the canary agrees."""
        if not len(self.memory):
            return
        self.next_publish = max(self.n_taught * self.config.publish_growth, _FIRST_PUBLISH)
        self.classifier.solve()
        trained = sum(self.learner.features.cost.steps_per_level) > 0
        means, unknown_below = self.learner.fitted_means()
        candidate = Candidate(
            weights=self.learner.weights() if trained else None,
            rehearsed=self.learner.classifier(),
            means=means,
            unknown_below=unknown_below,
        )
        if not candidate.sound:
            self.drop("training diverged: a value is not finite, or beyond all measure")
            return
        judged = self.judged(candidate, self.exam())
        if judged.verdict.passed:
            self.swap_in(judged)
            self.note("published", f"version {self.version}: {judged.verdict.reason}")
        else:
            self.verdict = judged.verdict
            self.drop(judged.verdict.reason)

    def drop(self, reason: str) -> None:
        """Go on from the last good generation."""
        super().drop(reason)
        self.learner.restore(self.good_weights, self.good_rehearsed)

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
        saving.save(self, self.store, saving.TrainerCheckpoint.of(self), reason)
        self.save_s += time.perf_counter() - start

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restore_slow(self, slow: saving.TrainerCheckpoint) -> None:
        """Go on training from a saved generation."""
        assert self.store is not None
        record_bytes = self.codec.record_bytes + SEQ_BYTES
        records, found = saving.records_of(self.store, slow.seqs, record_bytes)
        held = {"records": records, "labels": slow.labels[found]}
        self.memory = LatentMemory.from_arrays(held, slow.memory_facts, self.config.memory_bytes)
        weights = slow.weights or self.good_weights
        self.learner.restore(weights, slow.rows, slow.prior, self.memory)
        self.learner.features.cost = TrainingCost(**slow.facts["cost"])
        self.credit_macs = float(slow.facts["credit_macs"])
        self.next_publish = float(slow.facts["next_publish"])

    def _build(self) -> None:
        record_bytes = self.codec.record_bytes + SEQ_BYTES
        self.memory = LatentMemory(record_bytes, self.config.memory_bytes, self.config.seed)
        self.learner = Learner(
            adaptive_blocks(self.bundle, allow_code=self.engines.allow_code),
            self.bundle.levels, self.memory, self.codec, self.schedule, self.config,
            n_threads=self.engines.n_threads,
        )  # fmt: skip
        self.good_weights = self.learner.weights()
        self.good_rehearsed = self.learner.classifier()
