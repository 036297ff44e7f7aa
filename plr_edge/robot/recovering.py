"""Recovering the model of a running robot from its state, beside the frames."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.engines import Engine
from plr_edge.robot.calls import done
from plr_edge.robot.workers import Workers
from plr_edge.runtime.checkpoint import Recovery, TrainerCheckpoint
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.store import LEARNED, Store


class AbandonedError(Exception):
    """The robot ends before it has learned everything again."""


Recovered = tuple[LearnedModel, Engine, TrainerCheckpoint | None]  # with its adaptive part
_SHORT = 256  # labels that are learned again before the first frame, in half a second
_MAX_WAITING = 8  # batches that the closed forms may lag behind


class CatchingUp:
    """The newest generation, which answers at once, and the labels after it, learned beside it.

    Attributes:
        begun: what answers meanwhile.
        upto: last label that it has learned.
        text: how many labels are learned beside the frames, for people. Empty if none are.
    """

    def __init__(
        self, store: Store, bundle: Bundle, config: LearningConfig, perception: Perception
    ) -> None:
        """Restore the generation.

        Args:
            store: the state.
            bundle: the networks.
            config: how to learn.
            perception: builds the engine.

        Raises:
            StateError: the state is damaged, or of another frozen part.
        """
        self._recovery, self._perception = Recovery(store, bundle, config), perception
        model = self._recovery.model
        engine = perception.build_engine(model.weights if model.version else {})
        self.begun: Recovered = model, engine, self._recovery.checkpoint
        self.upto = self._recovery.upto
        n_missed = store.labels.count_after(self.upto, LEARNED)
        self._is_short = n_missed <= _SHORT
        self.text = (
            "" if self._is_short else
            f"{n_missed} labels are being learned again and do not answer yet"
        )  # fmt: skip

    def learn_missed(
        self, workers: Workers, take: Callable[[tuple[LearnedModel, int]], None]
    ) -> Future[None]:
        """Learn the labels after the generation: at once if they are few, else beside the frames.

        Args:
            workers: let the closed forms learn.
            take: takes in the result of `learn`, on the thread of the frames.
        """
        if not self._is_short:
            return workers.change(partial(self.learn, workers), take)
        take(self.learn(workers))
        return done(None)

    def learn(self, workers: Workers) -> tuple[LearnedModel, int]:
        """Learn the labels after the generation. On any thread, while it answers frames.

        Args:
            workers: let the closed forms learn. If they are to end, labels are left out.

        Returns:
            What has learned them, to replace what answered meanwhile, and the last label in it.
        """
        answering, engine, _ = self.begun
        model = answering.draft()
        model.holdout = answering.holdout.copy()
        with workers.without_pauses():
            upto = self._learn_into(model, engine, workers)
            workers.settle()
        return model, upto

    def _learn_into(self, model: LearnedModel, engine: Engine, workers: Workers) -> int:
        recovery, upto = self._recovery, self._recovery.upto
        features_with = self._perception.features_with
        for labels in recovery.batches(to_train=False):
            if workers.ending:
                return upto
            model.relearn(
                labels,
                recovery.upto,
                lambda latents, taps: features_with(engine, latents, taps, model.has_moved),
                partial(workers.learn_statistics, model.classifier),
            )
            upto = labels[-1].seq
            if workers.n_waiting > _MAX_WAITING:
                workers.settle()
        recovery.finish(model)
        return recovery.last_seq


def recovered(
    store: Store, bundle: Bundle, config: LearningConfig, perception: Perception, workers: Workers
) -> Recovered:
    """Restore the newest generation, and learn again the labels after it. On any thread.

    Args:
        store: the state.
        bundle: the networks.
        config: how to learn.
        perception: builds the engine.
        workers: let the closed forms learn.

    Raises:
        StateError: the state is damaged, or of another frozen part.
        AbandonedError: the robot ends meanwhile.
    """
    catching_up = CatchingUp(store, bundle, config, perception)
    _, engine, checkpoint = catching_up.begun
    model, upto = catching_up.learn(workers)
    if workers.ending and upto < store.last_seq:
        raise AbandonedError
    return model, engine, checkpoint
