"""Recovering the model of a running robot from its state, beside the frames."""

from __future__ import annotations

from functools import partial

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.engines import Engine
from plr_edge.robot.workers import Workers
from plr_edge.runtime.checkpoint import Recovery, TrainerCheckpoint
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.store import Store


class AbandonedError(Exception):
    """The robot ends before it has learned everything again."""


Recovered = tuple[LearnedModel, Engine, TrainerCheckpoint | None]  # with its adaptive part


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
    recovery = Recovery(store, bundle, config)
    model = recovery.model
    engine = perception.build_engine(model.weights if model.version else {})
    for labels in recovery.batches():
        if workers.hurried:
            raise AbandonedError
        model.relearn(
            labels,
            recovery.upto,
            lambda latents, taps: perception.features_with(engine, latents, taps, model.has_moved),
            partial(workers.learn_statistics, model.classifier),
        )
    recovery.finish()
    workers.settle()
    return model, engine, recovery.checkpoint
