"""Inline training: the adaptive part is trained between two batches, as long as a credit lasts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.unknown_threshold import threshold_of
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.generative.gaussian_memory import GaussianMemory
from plr_edge.replay.latent_codec import LatentCodec
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
_DRAWN_PER_CLASS = 16  # latents that class means are fitted to where none are stored


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
            BundleError: the adaptive part cannot be trained.
        """
        window = bundle.window(config.window)
        self.config = config
        self._whole = codec = bundle.codec(config.bits, config.pool)
        self._side, levels = 0, bundle.levels  # side of the windows that the memory holds
        small = _codec_of_windows(bundle, config, schedule)
        if window is not None and small is not None:  # nothing is ever trained on whole maps
            self._side, levels, codec, window = window.side, window.levels, small, None
        memory = make_memory(bundle, config, codec)
        if not config.keeps_samples:  # what is drawn is new every time
            config = replace(config, cache_bytes=0)
        self.learner = Learner(
            adaptive_blocks(bundle),
            levels,
            memory,
            codec,
            schedule,
            config,
            window=window,
            n_threads=engines.n_threads,
        )
        self.perception_macs = bundle.perception_macs
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
            records = self._stored(with_seq(train.records, train.seqs))
            features = None if self._side else train.features.features
            self.learner.learn_many(records, train.indices, features)
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

    def candidate(self, n_taught: int, classifier: CombinedClassifier) -> Candidate:
        """Return what was trained so far. The next candidate is due some labels later.

        Args:
            n_taught: labels learned so far.
            classifier: what answers now.
        """
        self._next_candidate = max(n_taught * self.config.publish_growth, _FIRST_CANDIDATE)
        trained = sum(self.learner.features.cost.steps_per_level) > 0
        if self._side and not self.learner.has_moved:
            trained = False  # for windows, while blocks that did not move answer with whole maps
        means, unknown_below = self._fitted_means(classifier)
        return Candidate(
            weights=self.learner.weights() if trained else None,
            rehearsed=self.learner.classifier(),
            means=means,
            unknown_below=unknown_below,
            has_moved=self.learner.has_moved,
        )

    def checkpoint(self, upto: int, model: LearnedModel) -> TrainerCheckpoint:
        """Return what is needed to go on. Weights that diverged are left out.

        Args:
            upto: last label that was learned.
            model: what answers now.
        """
        weights, rehearsed = self.learner.weights(), self.learner.classifier()
        statistics = self._statistics()
        usable = not has_diverged([*weights.values(), rehearsed])
        same = all(np.array_equal(weights[name], array) for name, array in model.weights.items())
        memory, metadata = self.memory.to_arrays()
        kept = slice(0) if statistics else slice(None)
        return TrainerCheckpoint(
            upto=upto,
            seqs=seqs_of(memory["records"])[kept],
            labels=memory["labels"][kept],
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
            statistics=statistics,
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
        memory = self._restored_memory(saved, store)
        self.learner.restore(saved.weights or model.weights, saved.rehearsed, saved.prior, memory)
        self.learner.features.cost = TrainingCost(**saved.progress["cost"])
        self._credit_macs = float(saved.progress["credit_macs"])
        self.banked_macs = float(saved.progress.get("banked_macs", 0.0))
        self._next_candidate = float(saved.progress["next_publish"])

    def forget_class(self, label: int) -> None:
        """Forget a class of which only statistics are kept; classes after it move up by one."""
        memory, learner = self.memory, self.learner
        assert isinstance(memory, GaussianMemory)
        rehearsed, prior = learner.classifier(), learner.cosine.prior.numpy()
        rehearsed, prior = (
            np.delete(a, label, axis=0) if label < len(a) else a for a in (rehearsed, prior)
        )
        learner.restore(learner.weights(), rehearsed, prior, memory.without_class(label))

    def _statistics(self) -> dict[str, np.ndarray]:
        memory = self.memory
        return memory.to_statistics() if isinstance(memory, GaussianMemory) else {}

    def _restored_memory(self, saved: TrainerCheckpoint, store: Store) -> LatentMemory:
        if saved.statistics:
            memory = self.memory
            assert isinstance(memory, GaussianMemory)
            memory.restore(saved.statistics)
            return memory
        records, found = records_of(store, saved.seqs, self._whole.record_bytes + SEQ_BYTES)
        held = {"records": self._stored(records), "labels": saved.labels[found]}
        metadata = {**saved.memory, "record_bytes": self.memory.record_bytes}
        return LatentMemory.from_arrays(held, metadata, self.config.memory_bytes)

    def _stored(self, records: np.ndarray) -> np.ndarray:
        """Return what the memory holds of whole records (n, b) with the numbers of their labels."""
        if not self._side:
            return records
        whole = self._whole.crop(records[:, :-SEQ_BYTES], self._side)
        return with_seq(whole, seqs_of(records))

    def _fitted_means(self, classifier: CombinedClassifier) -> tuple[ClassMeans, float]:
        """Fit class means and the unknown threshold to the memory.

        Where it holds statistics or windows, the means are those of all real features until blocks
        move, and the threshold is fitted to the newest samples of each class. Then the means are
        those of windows, or of latents that are drawn. Drawn features do not tell how far real ones
        lie from a mean, so there is no threshold: the mix decides whether a frame is unknown.
        """
        memory, means = self.memory, classifier.means
        if not (self._side or isinstance(memory, GaussianMemory)):
            return self.learner.fitted_means()
        if not self.learner.has_moved:
            if not self.config.keeps_samples:
                return means.copy(), -1.0
            features, labels = classifier.mixing.newest_features()
            return means.copy(), threshold_of(means, features, labels, self.config.false_unknown)
        if not isinstance(memory, GaussianMemory):
            return self.learner.fitted_means()
        latents, labels = memory.draw_each(_DRAWN_PER_CLASS)
        drawn = ClassMeans(means.sums.shape[1])
        drawn.learn_many(self.learner.features_of(latents), labels)
        return drawn, -1.0


def _codec_of_windows(
    bundle: Bundle, config: LearningConfig, schedule: Schedule
) -> LatentCodec | None:
    """Return the codec of a memory that holds windows, or None if it holds whole maps.

    Where the classifier alone is trained while frames come, it is trained on features of whole
    maps, as it answers with these.
    """
    window = bundle.window(config.window)
    moves = config.schedule == "auto" or schedule.shares[-1] < 1
    if window is None or not (config.keeps_samples and moves and bundle.trains_blocks):
        return None
    return bundle.codec(config.bits, config.pool).of_window(window.side)


def make_memory(bundle: Bundle, config: LearningConfig, codec: LatentCodec) -> LatentMemory:
    """Return an empty memory to rehearse from, of stored latents or of statistics."""
    if config.keeps_samples:
        return LatentMemory(codec.record_bytes + SEQ_BYTES, config.memory_bytes, config.seed)
    return GaussianMemory(
        codec,
        config.new_per_step,
        config.new_per_step + config.rehearsed_per_step,
        config.seed,
        signed=bool(bundle.manifest["latent_signed"]),
        tail_bytes=SEQ_BYTES,
    )
