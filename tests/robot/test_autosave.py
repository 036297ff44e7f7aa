"""A robot writes a generation when it is time, of what it knew when it was asked to."""

from pathlib import Path

import numpy as np
import pytest
from tiny_network import frames

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError
from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory
from plr_edge.robot import autosave
from plr_edge.robot.autosave import Autosave
from plr_edge.robot.workers import Workers
from plr_edge.runtime.acknowledge import acknowledge
from plr_edge.runtime.checkpoint import Recovery, TrainerCheckpoint
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.store import Store

CONFIG = LearningConfig()


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(Path(__file__).parents[1] / "runtime" / "golden" / "bundle")


@pytest.fixture
def store(quick_path):
    with Store(quick_path / "s") as opened:
        yield opened


@pytest.fixture
def workers():
    made = Workers()
    made.hurry()
    yield made
    made.close()


def taught(bundle, store, n):
    """Return a model that has learned `n` labels, which the store holds."""
    model, perception = LearnedModel.blank(bundle, CONFIG), Perception(bundle)
    _, batch = acknowledge(model, frames(n), perception.perceive(frames(n)), store)
    model.learn(batch)
    return model


def checkpoint(bundle, upto):
    """Return the training of a robot that trains nothing."""
    record_bytes = bundle.codec(CONFIG.bits).record_bytes + SEQ_BYTES
    _, metadata = LatentMemory(record_bytes, CONFIG.memory_bytes).to_arrays()
    return TrainerCheckpoint(
        upto=upto,
        seqs=np.zeros(0, np.int64),
        labels=np.zeros(0, np.int32),
        memory=metadata,
        weights=None,
        rehearsed=np.zeros((0, bundle.feature_width), np.float32),
        prior=np.zeros(0, np.float32),
        progress={},
    )


def test_it_is_due_after_many_labels_or_a_while_but_not_if_nothing_is_new(
    bundle, store, workers, monkeypatch
):
    auto = Autosave(store, bundle, CONFIG, workers, (10, 1))
    assert not auto.is_behind(10, 1) and not auto.is_due(10, 1)
    assert auto.is_behind(11, 1) and not auto.is_due(11, 1)
    assert auto.is_due(8_010, 1) and not auto.is_due(8_009, 1)
    monkeypatch.setattr(autosave, "_VERSION_S", -1.0)
    assert auto.is_due(10, 2) and not auto.is_due(11, 1) and not auto.is_due(10, 1)
    monkeypatch.setattr(autosave, "_LABELS_S", -1.0)
    assert auto.is_due(11, 1) and not auto.is_due(10, 1)


def test_the_first_generation_is_written_after_minutes_not_after_an_hour(
    bundle, store, workers, monkeypatch
):
    auto = Autosave(store, bundle, CONFIG, workers, (0, 0))
    assert not auto.is_due(1, 0)
    monkeypatch.setattr(autosave, "_FIRST_S", -1.0)
    assert auto.is_due(1, 0) and not auto.is_due(0, 0)


def test_what_is_learned_after_the_call_is_not_in_the_generation(bundle, store, workers):
    model = taught(bundle, store, 12)
    auto = Autosave(store, bundle, CONFIG, workers, (0, 0))
    written = auto.save(model, checkpoint(bundle, 12), 12, "test")
    model.classes.append("later")
    model.n_taught += 5
    assert written.result(20) == "" and not auto.is_behind(12, 0)
    assert store.generations.read().upto == 12
    restored = Recovery(store, bundle, CONFIG).model
    assert (restored.classes, restored.n_taught) == (["ball", "cup", "key", "pen"], 12)


def test_before_the_first_version_the_closed_forms_are_written_alone(bundle, store, workers):
    model = taught(bundle, store, 40)
    auto = Autosave(store, bundle, CONFIG, workers, (0, 0))
    assert auto.save(model, None, 40, "test").result(20) == "" and not auto.is_behind(40, 0)
    recovery = Recovery(store, bundle, CONFIG)
    assert (recovery.upto, recovery.checkpoint, recovery.model.n_taught) == (40, None, 40)
    assert not list(recovery.batches(to_train=False))
    # a trainer begins with the labels of the log, which are all there
    n_again = sum(map(len, recovery.batches()))
    assert n_again == sum(x.status == "learned" for x in store.labels)
    now, then = (m.classifier for m in (model, recovery.model))
    features = Perception(bundle).perceive(frames(12))
    answers = [c.answer_many(features.taps, features.features).probabilities for c in (now, then)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


def test_what_is_not_written_has_a_reason(bundle, store, workers):
    auto = Autosave(store, bundle, CONFIG, workers, (0, 0))
    nothing = auto.save(LearnedModel.blank(bundle, CONFIG), None, 0, "test")
    assert nothing.result(0) == "nothing was taught yet"
    model = taught(bundle, store, 4)
    auto._writing = True
    assert "is being written" in auto.save(model, checkpoint(bundle, 4), 4, "test").result(0)
    assert not auto.is_due(4, 0) and store.generations.read() is None


def test_a_disk_that_refuses_leaves_it_behind(bundle, store, workers, monkeypatch):
    def refuse(*_, **__):
        raise StateError("no space")

    model = taught(bundle, store, 4)
    auto = Autosave(store, bundle, CONFIG, workers, (0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(autosave, "save", refuse)
        assert auto.save(model, checkpoint(bundle, 4), 4, "test").result(20) == "no space"
    assert auto.is_behind(4, 0)
    assert auto.save(model, checkpoint(bundle, 4), 4, "test").result(20) == ""


def test_a_day_whose_bytes_are_spent_writes_only_what_is_asked_for(bundle, store, workers):
    config = LearningConfig(write_bytes_per_day=0)
    model = taught(bundle, store, 4)
    auto = Autosave(store, bundle, config, workers, (0, 0))
    save = [model, checkpoint(bundle, 4), 4, "test"]
    assert "were written today" in auto.save(*save, within_budget=True).result(20)
    assert auto.save(*save).result(20) == ""
