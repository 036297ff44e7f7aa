"""Session: one process that answers and learns over a finite stream, deterministically.

It trains the adaptive part between two batches. A label is on disk before it is learned. Weights
are written when there is time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import AdaptConfig, EngineConfig, LearningConfig
from plr_edge.engines import Engine
from plr_edge.errors import StateError
from plr_edge.replay.schedule import Schedule, make_schedule
from plr_edge.runtime.acknowledge import acknowledge
from plr_edge.runtime.checkpoint import Recovery, save
from plr_edge.runtime.consolidation import ConsolidationBudget, Progress, remember, run_cycle
from plr_edge.runtime.identity import config_of, with_window
from plr_edge.runtime.inline_training import InlineTraining
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.learned_model import LearnedModel, MovedNames
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.prediction import Features, Prediction
from plr_edge.runtime.validation import evaluate
from plr_edge.store import Store, open_store, opened_for_reading
from plr_edge.stream.base import Frame
from plr_edge.stream.names import learned_names

_log = logging.getLogger(__name__)
_MANY = 64  # labels


class Session(MovedNames):
    """Answer frames, then learn from those that have a label.

    Attributes:
        bundle: the networks.
        config: how to learn.
        engines: what the networks run on.
        new_class: whether a label that looks like a known class is one of its own.
        schedule: share of the training steps per level.
        learned: everything that was learned.
        perception: answers with it.
        store: where it is kept. None without a state.
        training: trains the adaptive part.
        learner: does the training steps of it.
        learn_s: seconds spent on learning so far.
    """

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path | None = None,
        config: LearningConfig | None = None,
        engines: EngineConfig | None = None,
        *,
        new_class: bool = False,
    ) -> None:
        """Start fresh, or continue from a state: its newest generation, then the labels after it.

        Args:
            bundle: from `open_bundle`.
            state: directory of what is learned. None keeps it in memory only.
            config: how to learn.
            engines: what the networks run on.
            new_class: a label that looks like a known class is one of its own.

        Raises:
            StateError: the state is damaged, in use, not writable, or of another frozen part.
        """
        if isinstance(config, AdaptConfig):
            config, engines = config.split()
        self.bundle, self.config = bundle, config or LearningConfig()
        self.engines, self.new_class = engines or EngineConfig(), new_class
        self.schedule = self._schedule_of(self.config.schedule_name)
        self.learn_s = 0.0
        self.store: Store | None = None
        if state is not None:
            self.store = open_store(state, label_bytes=self.config.label_bytes)
        try:
            self.config = with_window(self.config, bundle, self.store)
            self.learn_again()
        except BaseException:
            self.close()
            raise

    def learn_again(self) -> None:
        """Learn what the state holds now: its newest generation, then its labels.

        Raises:
            StateError: the state is damaged, or of another frozen part.
        """
        self.learned = LearnedModel.blank(self.bundle, self.config)
        window = self.config.window
        self.perception = Perception(self.bundle, self.learned, self.engines, window=window)
        self.training = InlineTraining(self.bundle, self.config, self.engines, self.schedule)
        self.learner = self.training.learner
        self.learned.weights = self.learner.exported
        if self.store and self._recover(self.store) >= _MANY:
            with suppress(StateError):  # so that a crash loop does not learn them each time
                self.save("after recovery", within_budget=True)

    @classmethod
    def resume(
        cls, bundle: Bundle, state: str | Path, engines: EngineConfig | None = None
    ) -> Session:
        """Open a state with the settings that it was last used with; see `__init__`.

        Raises:
            StateError: there is no state, or it cannot be used.
        """
        with opened_for_reading(state) as store:
            config = config_of(store)
        return cls(bundle, state, config, engines)

    def close(self) -> None:
        """Release the state."""
        if self.store is not None:
            self.store.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def position(self, key: str) -> int:
        """Return the position at which an earlier version stopped in a stream, 0 if in none."""
        return int(self.store.facts.get("positions", {}).get(key, 0)) if self.store else 0

    def observe_many(self, frames: Sequence[Frame]) -> list[Prediction]:
        """Answer frames, learning each labelled one before the next is answered.

        When this returns, every label among them survives any crash. The engines run the batch at
        once. Class means learn each label before the next frame of the batch is answered. Ridge
        and rehearsal learn at the end of the batch.

        Args:
            frames: frames, some with labels.

        Raises:
            LabelError: a label cannot be used. The batch is not learned.
            StateError: the disk refuses. The batch is not learned, and the session can go on.
        """
        names = learned_names(
            [frame.label for frame in frames], self.learned.classes, self.new_class
        )
        frames = [
            frame if frame.label == name else replace(frame, label=name)
            for frame, name in zip(frames, names, strict=True)
        ]
        start, learned_s = time.perf_counter(), self.learn_s
        predictions = self.observe_features(frames, self.perception.perceive(frames))
        answer_s = time.perf_counter() - start - (self.learn_s - learned_s)
        each_ms = answer_s * 1e3 / max(len(frames), 1)
        return [replace(prediction, latency_ms=each_ms) for prediction in predictions]

    def observe_features(self, frames: Sequence[Frame], features: Features) -> list[Prediction]:
        """Do as `observe_many` with frames whose features are known.

        Raises:
            StateError: the disk refuses. The batch is not learned, and the session can go on.
        """
        draft = self.learned.draft()
        predictions, batch = acknowledge(draft, frames, features, self.store)
        self._use(draft)
        answered = time.perf_counter()
        if batch is not None:
            self.learned.learn(batch)
            self.train_on(batch)
        self.learn_s += time.perf_counter() - answered
        return predictions

    def train_on(self, batch: LabelledBatch) -> None:
        """Train on labels, and publish a candidate if enough were learned."""
        self.training.learn(batch)
        if self.learner.diverged:
            self.drop("training diverged: a loss is not finite")
        if self.training.is_due(self.learned.n_taught):
            self.publish()

    def publish(self, *, final: bool = False) -> None:
        """Fit the mix, `final` for few new labels too, and offer what was trained to the gate."""
        learned = self.learned
        if not len(self.training.memory):
            return
        learned.classifier.solve()
        if learned.classifier.is_fit_due(final=final):
            learned.classifier.mixing.mix = learned.classifier.mixing.fitted(final=final)
        candidate = self.training.candidate(learned.n_taught, learned.classifier)
        if candidate.diverged:
            self.drop("training diverged: a value is not finite or too large")
            return
        incumbent = learned.incumbent(self.perception.engine, self.perception.exported_engine)
        evaluation = evaluate(candidate, incumbent, self.perception.build_engine, lambda: 1.0)
        if not evaluation.verdict.passed:
            learned.verdict = evaluation.verdict
            self.drop(evaluation.verdict.reason)
            return
        learned.publish(evaluation)
        self._use(learned, evaluation.engine)
        self._note("published", f"version {learned.version}: {evaluation.verdict.reason}")

    def drop(self, reason: str) -> None:
        """Drop what was trained since the last published version, and log the reason."""
        _log.error("candidate dropped, going on from the last good version: %s", reason)
        self._note("dropped", reason)
        self.learner.restore(self.learned.weights, self.learned.classifier.rehearsed)

    def finish(self) -> None:
        """Publish what was trained since the last version, and save."""
        start = time.perf_counter()
        try:
            if self.training.banked_macs > 0:
                budget = ConsolidationBudget(macs=self.training.banked_macs)
                self.consolidate(budget, self.config.final_schedule)
            elif self.learned.n_taught:
                self.publish(final=True)
        finally:
            self.learn_s += time.perf_counter() - start
            self.save("at the end")

    def consolidate(
        self,
        budget: ConsolidationBudget,
        schedule: str = "internal",
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> int:
        """Train over the latent memory, and publish the result if the gate agrees.

        A KeyboardInterrupt is raised once what was trained so far was offered to the gate. Call
        `save` afterwards. See `run_cycle` for the arguments and what is returned.
        """
        self.training.banked_macs = 0.0
        try:
            shares = self._schedule_of(schedule if self.bundle.trains_blocks else "classifier")
            n_steps = run_cycle(self.learner, shares, budget, on_progress)
            if self.store is not None and n_steps and shares.shares[-1] < 1:  # blocks were trained
                remember(self.store)
            return n_steps
        finally:
            if self.learner.diverged:
                self.drop("training diverged: a loss is not finite")
            self.publish(final=True)

    def take_back(self, names: Collection[str]) -> None:
        """Go on as if classes had never been taught, where only statistics are kept, and save."""
        for name in set(names) & set(self.learned.classes):
            self.training.forget_class(self.learned.index_of(name))
            self._use(self.learned.without_class(name))
        self.publish(final=True)
        self.save("classes were taken back")

    def save(self, reason: str = "on time", *, within_budget: bool = False) -> None:
        """Write a generation. Nothing happens without a state.

        Args:
            reason: why, for the log.
            within_budget: do nothing if the bytes of today are spent.

        Raises:
            StateError: the disk refuses. The state before is still there.
        """
        if self.store is None or not (len(self.training.memory) or [*self.store.generations]):
            return
        if within_budget and self.store.written_today > self.config.write_bytes_per_day:
            return
        training = self.training.checkpoint(self.store.last_seq, self.learned)
        save(self.store, self.bundle, self.config, self.learned, training, reason)

    def _use(self, learned: LearnedModel, engine: Engine | None = None) -> None:
        """Answer with another model, and another engine if its weights are others."""
        self.learned = self.perception.model = learned
        self.perception.engine = engine or self.perception.engine

    def _schedule_of(self, name: str) -> Schedule:
        return make_schedule(name, self.bundle.levels, self.config.step_costs)

    def _note(self, kind: str, text: str) -> None:
        if self.store is not None:
            self.store.events.note(kind, text)

    def _recover(self, store: Store) -> int:
        """Take over what the state holds; return how many labels were learned again."""
        recovery = Recovery(store, self.bundle, self.config)
        model = recovery.model
        model.weights = model.weights or self.learned.weights
        self._use(model, self.perception.build_engine(model.weights) if model.version else None)
        if recovery.checkpoint is not None:
            self.training.restore(recovery.checkpoint, store, model)
        for labels in recovery.batches():
            batch = model.relearn(labels, recovery.upto, self.perception.features)
            self.train_on(batch.after(recovery.trained_upto))
        return recovery.finish()
