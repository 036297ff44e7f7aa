"""Inline training: the adaptive part is trained between two batches, as long as a credit lasts."""

from __future__ import annotations

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory, seqs_of, with_seq
from plr_edge.replay.learner import Learner
from plr_edge.replay.level_features import TrainingCost
from plr_edge.replay.schedule import Schedule
from plr_edge.runtime.checkpoint import TrainerCheckpoint, records_of
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.validation import Candidate, has_diverged
from plr_edge.store import Store

_FIRST_CANDIDATE = 64  # labels before the first candidate is made
_MAX_STEPS_PER_BATCH = 64


class InlineTraining:
    """Trains in this process. Each label that is learned gives a credit of multiply-adds.

    Attributes:
        learner: does the training.
        perception_macs: multiply-adds of answering one frame, up to the classifier.
        banked_macs: multiply-adds that consolidation may spend.
    """

    def __init__(
        self, bundle: Bundle, config: LearningConfig, engines: EngineConfig, schedule: Schedule
    ) -> None:
        """Start with the weights of a bundle and an empty latent memory.

        Raises:
            BundleError: the bundle names code that may not be imported.
        """
        codec = bundle.codec(config.bits, config.pool)
        record_bytes = codec.record_bytes + SEQ_BYTES
        self.config = config
        self.learner = Learner(
            adaptive_blocks(bundle, allow_code=engines.allow_code),
            bundle.levels,
            LatentMemory(record_bytes, config.memory_bytes, config.seed),
            codec,
            schedule,
            config,
            window=bundle.window(config.window),
            n_threads=engines.n_threads,
        )
        adaptive = sum(level.macs for level in bundle.levels[:-1])
        self.perception_macs = int(bundle.manifest["frozen_macs"]) + adaptive
        self._credit_macs, self._next_candidate = 0.0, float(_FIRST_CANDIDATE)
        self.banked_macs = 0.0

    @property
    def memory(self) -> LatentMemory:
        """The latent memory."""
        return self.learner.features.memory

    def learn(self, batch: LabelledBatch) -> None:
        """Add labels to the latent memory, and train as long as the credit lasts.

        Training that diverges sets `learner.diverged`.
        """
        train = batch.to_train()
        if train.labels:
            records = with_seq(train.records, train.seqs)
            self.learner.learn_many(records, train.indices, train.features.features)
        now = self.config.train_ratio - self.config.banked_ratio
        self._credit_macs += len(batch.labels) * now * self.perception_macs
        self.banked_macs += len(batch.labels) * self.config.banked_ratio * self.perception_macs
        cost = self.learner.features.cost
        before = cost.macs
        for _ in range(_MAX_STEPS_PER_BATCH):
            if self._credit_macs - (cost.macs - before) <= 0:
                break
            if self.learner.step() is None:
                break
        self._credit_macs -= cost.macs - before

    def is_due(self, n_taught: int) -> bool:
        """Return whether enough labels were learned since the last candidate."""
        return n_taught >= self._next_candidate

    def candidate(self, n_taught: int) -> Candidate:
        """Return what was trained so far. The next candidate is due some labels later."""
        self._next_candidate = max(n_taught * self.config.publish_growth, _FIRST_CANDIDATE)
        n_steps = self.learner.features.cost.steps_per_level
        trained = sum(n_steps) > 0
        means, unknown_below = self.learner.fitted_means()
        return Candidate(
            weights=self.learner.weights() if trained else None,
            rehearsed=self.learner.classifier(),
            means=means,
            unknown_below=unknown_below,
            has_moved=sum(n_steps[:-1]) > 0,
        )

    def checkpoint(self, upto: int, model: LearnedModel) -> TrainerCheckpoint:
        """Return what is needed to go on. Weights that diverged are left out.

        Args:
            upto: last label that was learned.
            model: what answers now.
        """
        weights, rehearsed = self.learner.weights(), self.learner.classifier()
        usable = not has_diverged([*weights.values(), rehearsed])
        same = all(np.array_equal(weights[name], array) for name, array in model.weights.items())
        memory, metadata = self.memory.to_arrays()
        return TrainerCheckpoint(
            upto=upto,
            seqs=seqs_of(memory["records"]),
            labels=memory["labels"],
            memory=metadata,
            weights=weights if usable and not same else None,
            rehearsed=rehearsed if usable else model.classifier.rehearsed,
            prior=self.learner.cosine.prior.numpy(),
            progress={
                "cost": vars(self.learner.features.cost),
                "credit_macs": self._credit_macs,
                "banked_macs": self.banked_macs,
                "next_publish": self._next_candidate,
            },
        )

    def restore(self, saved: TrainerCheckpoint, store: Store, model: LearnedModel) -> None:
        """Continue from a checkpoint.

        Args:
            saved: the checkpoint.
            store: holds the latents of its labels.
            model: what answers now.

        Raises:
            StateError: it does not fit the bundle.
        """
        records, found = records_of(store, saved.seqs, self.memory.record_bytes)
        held = {"records": records, "labels": saved.labels[found]}
        memory = LatentMemory.from_arrays(held, dict(saved.memory), self.config.memory_bytes)
        self.learner.restore(saved.weights or model.weights, saved.rehearsed, saved.prior, memory)
        self.learner.features.cost = TrainingCost(**saved.progress["cost"])
        self._credit_macs = float(saved.progress["credit_macs"])
        self.banked_macs = float(saved.progress.get("banked_macs", 0.0))
        self._next_candidate = float(saved.progress["next_publish"])
