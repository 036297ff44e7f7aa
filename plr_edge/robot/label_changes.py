"""Changes of what was taught: labels become durable, or are taken back, beside the frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np

from plr_edge.errors import StateError
from plr_edge.robot.autosave import Autosave
from plr_edge.robot.background_trainer import BackgroundTrainer
from plr_edge.robot.label_counts import LabelCounts
from plr_edge.robot.mix_fitting import MixFitting
from plr_edge.robot.recovering import AbandonedError, Recovered
from plr_edge.robot.workers import Workers
from plr_edge.runtime.acknowledge import acknowledge
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.store import Store
from plr_edge.stream.base import Frame

T = TypeVar("T")


class LabelChanges:
    """The part of `OnlineModel` that changes labels. All of it belongs to the thread of the frames.

    Attributes:
        counts: numbers of labels by class, as the label log has them.
        n_learned: labels learned since the start. It never falls.
        n_set_aside: labels quarantined since the start. It never falls.
    """

    store: Store
    learned: LearnedModel
    perception: Perception
    trainer: BackgroundTrainer
    workers: Workers
    last_seq: int
    disk_trouble: str
    counts: LabelCounts
    n_learned = n_set_aside = 0
    _mix_fitting: MixFitting
    _autosave: Autosave
    _epoch: int
    _is_stale = False  # labels were taken back, and what is learned still knows them

    def teach(
        self, frames: Sequence[Frame], encoded: Sequence[FrozenOutput], metadata: Mapping[str, Any]
    ) -> Future[LabelledBatch | None]:
        """Make labels durable and learn them. Call it only while nothing is changing.

        Features are computed again, because another version may have answered these frames.

        Args:
            frames: frames with labels.
            encoded: output of the frozen part for them.
            metadata: what to keep in the store in the same transaction, by name.

        Returns:
            What was learned, once it is durable and answers. Or a StateError if the disk refuses.
        """
        draft, engine = self.learned.draft(), self.perception.engine
        features_with = self.perception.features_with
        latents = np.concatenate([each.latents for each in encoded])
        taps = np.concatenate([each.taps for each in encoded])

        before, counts = self.last_seq, self.counts

        def work() -> tuple[LabelledBatch | None, int, LabelCounts]:
            features = features_with(engine, latents, taps, draft.has_moved)
            _, batch = acknowledge(draft, frames, features, self.store, metadata)
            added = list(self.store.labels.read(before))
            return batch, self.store.last_seq, counts.with_added(added)

        def take(result: tuple[LabelledBatch | None, int, LabelCounts]) -> LabelledBatch | None:
            batch, last_seq, counted = result
            self.learned = self.perception.model = draft
            self.n_learned += counted.n_learned - counts.n_learned
            self.n_set_aside += counted.n_quarantined - counts.n_quarantined
            self.counts, self.last_seq, self.disk_trouble = counted, last_seq, ""
            self._mix_fitting.taught()
            if batch is not None and batch.labels:
                draft.learn(batch, partial(self.workers.learn_statistics, draft.classifier))
                self.trainer.learn(batch, with_features=draft.version == 0)
            return batch

        outcome = self.workers.change(work, take)
        outcome.add_done_callback(self._note_refusal)
        return outcome

    def rebuild_after(self, change: Callable[[], T]) -> Future[T]:
        """Take labels back, and learn from those that are left, while frames are answered.

        Args:
            change: changes the store, on another thread.

        Returns:
            What it returned, once the labels that are left answer. Or what it raised.
        """
        self.trainer.stop()
        self._epoch += 1

        def work() -> tuple[T, Recovered | None, LabelCounts]:
            self.workers.settle()  # a generation that is being written knows these labels
            changed, recovered = change(), None
            with suppress(AbandonedError):  # the next start learns them again
                recovered = self._recovered()
            return changed, recovered, LabelCounts.of(self.store)

        def take(result: tuple[T, Recovered | None, LabelCounts]) -> T:
            changed, recovered, self.counts = result
            self.last_seq = self.store.last_seq
            if recovered is None:
                self._is_stale = True
            else:
                self._use(*recovered)
                self._autosave.rebuilt(self.learned.version)
            return changed

        return self.workers.change(work, take)

    def correct(self, change: Callable[[], T]) -> Future[T]:
        """Change the store where nothing that was learned depends on it.

        Args:
            change: changes the store, on another thread.

        Returns:
            What it returned, or what it raised.
        """

        def take(result: tuple[T, LabelCounts]) -> T:
            changed, self.counts = result
            return changed

        return self.workers.change(lambda: (change(), LabelCounts.of(self.store)), take)

    def _note_refusal(self, taught: Future[Any]) -> None:
        if isinstance(error := taught.exception(), StateError):
            self.disk_trouble = f"labels are refused: {error}"

    def _recovered(self) -> Recovered:
        raise NotImplementedError

    def _use(self, *recovered: Any) -> None:
        raise NotImplementedError
