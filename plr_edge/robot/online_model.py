"""OnlineModel: a learned model of a running robot, which another process trains. Without torch.

It answers, makes labels durable, and lets a candidate answer once it has passed the publish gate.
Nothing here waits: what is slow is done by worker threads and by the trainer, and `poll` takes in
the results. All methods but `close` belong to one thread, that of the frames.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.engines import Engine
from plr_edge.errors import PlrEdgeError
from plr_edge.replay.schedule import make_schedule
from plr_edge.robot.autosave import Autosave
from plr_edge.robot.background_trainer import (
    BackgroundTrainer,
    TrainerLimits,
    candidate_of,
    checkpoint_of,
)
from plr_edge.robot.governor import with_initial_costs
from plr_edge.robot.label_changes import LabelChanges
from plr_edge.robot.label_counts import LabelCounts
from plr_edge.robot.mix_fitting import MixFitting
from plr_edge.robot.protocol import Message
from plr_edge.robot.recovering import CatchingUp, Recovered, recovered
from plr_edge.robot.restart_guard import RestartGuard
from plr_edge.robot.workers import Workers
from plr_edge.runtime.checkpoint import TrainerCheckpoint
from plr_edge.runtime.identity import with_window
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.validation import Evaluation, evaluate
from plr_edge.store import open_store

_log = logging.getLogger(__name__)
T = TypeVar("T")


class OnlineModel(LabelChanges):
    """Answers and acknowledges here, and is trained in another process.

    Attributes:
        bundle: the networks.
        config: how to learn.
        engines: what the networks run on.
        schedule: share of the training steps per level, at the start.
        store: where everything learned is kept.
        learned: everything that was learned.
        perception: answers with it.
        checkpoint: training as of the newest version. None if there is none.
        trainer: trains in another process.
        workers: threads for what is slow.
        restarts: ends a loop of failing starts.
        last_seq: last label that was learned.
        n_dropped: number of candidates that were refused.
        on_event: called with kind and payload of what happens to the model.
        disk_trouble: why the disk refuses labels. Empty if it does not.
        relearning: how many labels are being learned again after the start. Empty without any.
        evaluating: whether a candidate is being evaluated.
        evaluated: called with each candidate and what came of it. None if it is void.
        on_restored: called once a backup answers in the place of what was learned.
    """

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path,
        config: LearningConfig,
        engines: EngineConfig | None = None,
        limits: TrainerLimits | None = None,
    ) -> None:
        """Continue from a state. `poll` starts the trainer.

        Args:
            bundle: from `open_bundle`.
            state: directory of what is learned.
            config: how to learn.
            engines: what the networks run on.
            limits: what the trainer may use of this machine.

        Raises:
            StateError: the state is damaged, in use, not writable, or of another frozen part.
        """
        self.bundle, self.engines = bundle, engines or EngineConfig()
        self.checkpoint: TrainerCheckpoint | None = None
        self.last_seq, self.n_dropped, self.disk_trouble, self.relearning = 0, 0, "", ""
        self._epoch = 0  # ends when labels are taken back; candidates of an earlier one are void
        self.on_event: Callable[[str, dict[str, Any]], None] = lambda kind, payload: None
        self.evaluating = False
        self.evaluated: Callable[[Message, Evaluation | None], None] = lambda *_: None
        self.on_restored: list[Callable[[], None]] = []
        self.store = open_store(state, label_bytes=config.label_bytes)
        try:
            config = with_window(config, bundle, self.store)
            levels = bundle.trained_levels(config.window)
            self.config = with_initial_costs(config, levels)
            name, costs = self.config.schedule_name, self.config.step_costs
            self.schedule = make_schedule(name, levels, costs)
            self.learned = LearnedModel.blank(bundle, self.config)
            window = self.config.window
            self.perception = Perception(bundle, self.learned, self.engines, window=window)
        except BaseException:
            self.store.close()
            raise
        self.workers = Workers()
        self.trainer = BackgroundTrainer(bundle, self.config, limits)
        self.restarts = RestartGuard(self.store)
        self._mix_fitting = MixFitting(self.workers, self.note)
        try:
            self.last_seq = saved_seq = self.store.last_seq
            if not self.restarts.trouble:
                found = CatchingUp(self.store, bundle, self.config, self.perception)
                self._use(*found.begun)
                self.last_seq = saved_seq = found.upto
                self.relearning = found.text
                missed = found.learn_missed(self.workers, self._caught_up)
                missed.add_done_callback(self._relearned)
            self.counts = LabelCounts.of(self.store)
            saved = (saved_seq, self.learned.version)
            self._autosave = Autosave(self.store, bundle, self.config, self.workers, saved)
        except PlrEdgeError:
            self.close()
            raise
        except BaseException:  # whatever it is, it may be the same at the next start
            self.restarts.answered = True
            self.close()
            raise

    def close(self) -> None:
        """Stop the trainer, finish what is under way, and release the state."""
        self.trainer.close()
        self.restarts.ended()
        self.workers.close()
        self.store.close()

    def poll(self) -> None:
        """Take in what happened elsewhere. Call it between two frames."""
        self.workers.poll()
        trainer, process = self.trainer, self.trainer.process
        if trainer.reap():
            self.note("trainer", f"died, for the {process.n_deaths}. time", deaths=process.n_deaths)
        if process.wanted and not (self.workers.changing or self.restarts.trouble):
            trainer.start(
                self.store,
                self.learned,
                self.checkpoint,
                lambda: self.learned.classes,
                lambda: self.last_seq,
            )
        trainer.poll(lambda: self._refuse("training diverged"))
        if trainer.candidate is not None and not (self.evaluating or self.workers.changing):
            candidate, trainer.candidate = trainer.candidate, None
            self._evaluate(candidate)
        if not self.workers.changing:
            self._mix_fitting.poll(lambda: self.learned, lambda: self._epoch)
        if not self.workers.changing and self._autosave.is_due(self.last_seq, self.learned.version):
            self.save("on time", within_budget=True)
        if not self.workers.changing and self.store.is_restore_offered:
            self.rebuild_after(self.store.take_restored).add_done_callback(self._restored)

    def _restored(self, done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            _log.error("%s", error)
            return
        _log.info("a backup answers from now on")
        for tell in self.on_restored:
            tell()

    def _recovered(self) -> Recovered:
        return recovered(self.store, self.bundle, self.config, self.perception, self.workers)

    def _caught_up(self, result: tuple[LearnedModel, int]) -> None:
        self.learned, self.last_seq = result
        self.perception.model = self.learned

    def _relearned(self, done: Future[None]) -> None:
        self.relearning = ""
        self._note_refusal(done)

    def _use(
        self, learned: LearnedModel, engine: Engine, checkpoint: TrainerCheckpoint | None
    ) -> None:
        """Answer with another model from the next frame on."""
        self.learned = self.perception.model = learned
        self.perception.engine = engine
        self.checkpoint = checkpoint

    # publishing

    def _evaluate(self, message: Message) -> None:
        """Evaluate a candidate on another thread, then publish or refuse it."""
        candidate = candidate_of(message, self.bundle.feature_width)
        epoch = self._epoch
        incumbent = self.learned.incumbent(self.perception.engine, self.perception.exported_engine)
        # if time is limited, this takes the trainer's, not that of the frames
        self.evaluating = self.trainer.process.held = True

        def then(done: Future[Evaluation]) -> None:
            if self.workers.changing:  # labels are learned with the version that answers
                self.workers.call_later(lambda: then(done))
                return
            self.evaluating = self.trainer.process.held = False
            evaluation = None
            try:
                evaluation = done.result() if epoch == self._epoch else None
            except PlrEdgeError as error:
                _log.error("a candidate cannot be evaluated (%s)", error)
            if evaluation is not None:
                self._publish(evaluation, message)
            self.evaluated(message, evaluation)

        build_engine = self.perception.build_engine
        work = partial(evaluate, candidate, incumbent, build_engine, lambda: self.workers.share)
        self.workers.submit(self.workers.aside, work, then)

    def _publish(self, evaluation: Evaluation, message: Message) -> None:
        """Answer with a candidate if the publish gate agrees."""
        verdict, learned = evaluation.verdict, self.learned
        if not verdict.passed:
            learned.verdict = verdict
            self._refuse(verdict.reason)
            return
        learned.publish(evaluation)
        if evaluation.engine is not None:
            self.perception.engine = evaluation.engine
        self.checkpoint = checkpoint_of(message)
        self.note(
            "published", f"version {learned.version}: {verdict.reason}", version=learned.version
        )

    def _refuse(self, reason: str) -> None:
        _log.error("candidate dropped, going on from the last good version: %s", reason)
        self.n_dropped += 1
        self.note("dropped", reason)
        self.trainer.restore(self.learned)

    # the state

    def save(self, reason: str, *, within_budget: bool = False) -> Future[str]:
        """Write a generation; see `Autosave.save`."""
        version, last_seq = self.learned.version, self.last_seq

        def tell(saved: Future[str]) -> None:
            if not saved.result():
                facts = {"reason": reason, "version": version, "upto": last_seq}
                self.on_event("saved", facts)

        written = self._autosave.save(
            self.learned, self.checkpoint, self.last_seq, reason, within_budget=within_budget
        )
        written.add_done_callback(tell)
        return written

    @property
    def is_unsaved(self) -> bool:
        """Whether something was learned that no generation on disk holds."""
        behind = self._autosave.is_behind(self.last_seq, self.learned.version)
        return behind and not self._is_stale

    def note(self, kind: str, text: str, **facts: Any) -> None:
        """Keep an event in the log of the state, when there is time, and tell listeners of it.

        Args:
            kind: what kind of event.
            text: what happened, for people.
            facts: figures for the listeners.
        """
        self.workers.disk.submit(self.store.events.note, kind, text)
        self.on_event(kind, {"text": text, **facts})
