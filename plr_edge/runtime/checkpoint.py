"""Checkpoints: a learned model and its training to the store and back.

A generation holds both as of some label. Opening a state restores the newest whole generation, and
then learns again the labels that were taught after it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory, with_seq
from plr_edge.replay.schedule import make_schedule
from plr_edge.runtime.identity import check_identity, identity
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.model_state import ModelState
from plr_edge.store import LEARNED, UNDONE, Label, Store
from plr_edge.tensors import with_prefix, without_prefix

_log = logging.getLogger(__name__)
_MAX_BATCH, _BATCH_BYTES = 256, 16 << 20  # labels learned again together, and their latents


@dataclass(frozen=True)
class TrainerCheckpoint:
    """What training needs to go on.

    Attributes:
        upto: last label that training has learned.
        seqs: (n,) int64 label numbers of the records in the latent memory.
        labels: (n,) int32 class indices of them.
        memory: metadata of the latent memory, see `LatentMemory.from_arrays`.
        weights: weights in training by name. None if they are those that answer.
        rehearsed: (K, D) float32 weight of the cosine classifier in training.
        prior: (K,) float32 label frequencies.
        statistics: arrays of a memory that keeps statistics only. Empty for one that keeps latents.
        progress: `cost`, `credit_macs` and `next_publish`.
    """

    upto: int
    seqs: np.ndarray
    labels: np.ndarray
    memory: Mapping[str, Any]
    weights: Mapping[str, np.ndarray] | None
    rehearsed: np.ndarray
    prior: np.ndarray
    progress: Mapping[str, Any]
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)

    def to_state(self) -> ModelState:
        """Return what a generation on disk holds of this."""
        learning = {
            "memory.seqs": self.seqs,
            "memory.labels": self.labels,
            "rows": self.rehearsed,
            "prior": self.prior,
            **with_prefix("statistics", self.statistics),
        }
        metadata = {"memory": self.memory, "memory_upto": self.upto, "slow": self.progress}
        trainer = {} if self.weights is None else {"trainer": dict(self.weights)}
        return ModelState(metadata, {"learning": learning, **trainer})

    @classmethod
    def from_state(cls, state: ModelState) -> TrainerCheckpoint:
        """Restore what `to_state` returned."""
        learning = state.arrays["learning"]
        return cls(
            upto=int(state.metadata["memory_upto"]),
            seqs=learning["memory.seqs"],
            labels=learning["memory.labels"],
            memory=state.metadata["memory"],
            weights=state.arrays.get("trainer"),
            rehearsed=learning["rows"],
            prior=learning["prior"],
            progress=state.metadata["slow"],
            statistics=without_prefix("statistics", learning),
        )


def save(
    store: Store,
    bundle: Bundle,
    config: LearningConfig,
    model: LearnedModel,
    training: TrainerCheckpoint | None,
    reason: str,
    upto: int | None = None,
) -> None:
    """Write a generation.

    Args:
        store: where to write.
        bundle: what the model was learned with.
        config: how it was learned.
        model: what was learned. Nothing may change it meanwhile.
        training: may lag behind the model. None if nothing was trained yet: then a trainer begins
            with the labels of the log.
        reason: why the generation is written, for the log.
        upto: last label that the model has learned. The last of all by default.

    Raises:
        StateError: the disk refuses. The state before is still there.
    """
    schedule = make_schedule(config.schedule_name, bundle.levels, config.step_costs)
    training = training or _untrained(bundle, config)
    of_model, of_training = model.to_state(), training.to_state()
    metadata = {
        **identity(bundle, config),
        "release": bundle.release,
        "schedule": {"name": schedule.name, "shares": schedule.shares},
        **of_model.metadata,
        **of_training.metadata,
    }
    arrays = {**of_model.arrays, **of_training.arrays}
    arrays["learning"] = {**of_model.arrays["learning"], **of_training.arrays["learning"]}
    held_out = model.holdout.seqs.tolist() if model.keeps_samples else []
    in_use = [*training.seqs.tolist(), *held_out]
    store.commit_generation(metadata, arrays, upto=upto, in_use=in_use, reason=reason)


def _untrained(bundle: Bundle, config: LearningConfig) -> TrainerCheckpoint:
    """Return the checkpoint of a trainer that has learned no label."""
    record_bytes = bundle.codec(config.bits, config.pool).record_bytes + SEQ_BYTES
    _, memory = LatentMemory(record_bytes, config.memory_bytes, config.seed).to_arrays()
    return TrainerCheckpoint(
        upto=0,
        seqs=np.zeros(0, np.int64),
        labels=np.zeros(0, np.int32),
        memory=memory,
        weights=None,
        rehearsed=np.zeros((0, bundle.feature_width), np.float32),
        prior=np.zeros(0, np.float32),
        progress={},
    )


class Recovery:
    """The newest whole generation of a store, and the labels to learn again after it.

    Whoever recovers takes over `model` and `checkpoint`, learns each of the `batches`, and calls
    `finish`.

    Attributes:
        model: the model of that generation, a blank one if there is none.
        checkpoint: its training. None if there is none: a trainer begins with the labels.
        upto: last label that the model has learned.
        trained_upto: last label that training has learned.
        last_seq: last label of the log.
    """

    def __init__(self, store: Store, bundle: Bundle, config: LearningConfig) -> None:
        """Read the generation, and drop those that are damaged.

        Raises:
            StateError: the state is damaged, or belongs to another frozen part, another codec or a
                later release of the bundle.
        """
        self._store = store
        self._n_missed = self._n_held = 0
        latent_bytes = 4 * math.prod(bundle.latent_shape)
        self._batch = min(max(_BATCH_BYTES // latent_bytes, 1), _MAX_BATCH)
        check_identity(store, bundle, config)
        damage = store.generations.damage()
        for text in damage.values():
            _log.warning("%s; learning again what it held", text)
        if damage and not store.refusal:
            store.generations.discard(sorted(damage), "damaged")
        saved = store.generations.read()
        self.upto, self.trained_upto, self.last_seq = 0, 0, store.last_seq
        self.checkpoint: TrainerCheckpoint | None = None
        if saved is None:
            self.model = LearnedModel.blank(bundle, config)
            self.model.fell_back = bool(damage)
            return
        state = ModelState(saved.facts, saved.arrays, partial(_with_latents, store))
        self.model = LearnedModel.from_state(state, bundle, config)
        checkpoint = TrainerCheckpoint.from_state(state)
        self.upto, self.trained_upto = saved.upto, checkpoint.upto
        self.checkpoint = checkpoint if checkpoint.upto else None

    def batches(self, *, to_train: bool = True) -> Iterator[list[Label]]:
        """Yield the labels to learn again in the order of teaching, with their latents.

        Args:
            to_train: begin after what training has learned, which may be less than the model has.
        """
        after = min(self.upto, self.trained_upto) if to_train else self.upto
        missed = [x for x in self._store.labels.read(after) if x.status == LEARNED]
        if missed and not self.model.keeps_samples:
            self._take_back(missed)
            return
        self._n_missed = len(missed)
        for start in range(0, len(missed), self._batch):
            held = self._store.labels.with_latents(missed[start : start + self._batch])
            self._n_held += len(held)
            if held:
                yield held

    def _take_back(self, missed: list[Label]) -> None:
        """Undo labels that no generation has learned, so that their frames are taught again."""
        if not self._store.refusal:
            self._store.mark([x.seq for x in missed], UNDONE, "lost before they were saved")
        self._store.notes.append(
            f"{len(missed)} labels were not saved before the last run ended, and no latents are "
            "kept (--rehearse generated); give their frames again"
        )

    def finish(self, model: LearnedModel | None = None) -> int:
        """Log the recovery, and restore the history of a model.

        Args:
            model: what learned the labels; `model` of this object by default.

        Returns:
            How many labels were learned again.
        """
        model = model or self.model
        store, n_lost = self._store, self._n_missed - self._n_held
        if n_lost:
            store.notes.append(
                f"{n_lost} labels cannot be learned again: their latents were evicted"
            )
        if self._n_missed:
            store.events.note(
                "recovered", f"{self._n_held} of {self._n_missed} labels learned again"
            )
        for note in store.notes:
            _log.warning("%s", note)
        index = {name: i for i, name in enumerate(model.classes)}
        answered = [
            (index.get(label.name, -1), index.get(label.predicted, -1))
            for label in store.labels
            if label.status != UNDONE
        ]
        if answered:
            model.history.add(*map(list, zip(*answered, strict=True)))
        return self._n_held


def records_of(store: Store, seqs: np.ndarray, record_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the records of a latent memory back from the label log.

    Args:
        store: some of the latents may have been evicted from it.
        seqs: (n,) label numbers.
        record_bytes: size of a record.

    Returns:
        records: (m, record_bytes) uint8, m <= n.
        found: (m,) int64 positions in `seqs`.
    """
    held, found = _with_latents(store, seqs)
    if not held:
        return np.zeros((0, record_bytes), np.uint8), found
    records = np.stack([label.record for label in held if label.record is not None])
    return with_seq(records, seqs[found]), found


def _with_latents(store: Store, seqs: np.ndarray) -> tuple[list[Label], np.ndarray]:
    """Return the labels whose latents are on disk, and the positions of these in `seqs`."""
    blank = [Label(name="", predicted="", source="", time_ns=0, seq=int(seq)) for seq in seqs]
    held = store.labels.with_latents(blank)
    there = {label.seq for label in held}
    found = np.array([i for i, seq in enumerate(seqs.tolist()) if seq in there], np.int64)
    if len(found) < len(seqs):
        store.notes.append(f"{len(seqs) - len(found)} latents of the memory are missing")
    return held, found
