"""A trainer that starts is sent the labels so far, then those that come, each once and in order."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_network import CLASSES, frames

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError
from plr_edge.robot.background_trainer import BackgroundTrainer
from plr_edge.robot.protocol import pack, unpack
from plr_edge.robot.trainer_sync import TrainerSync
from plr_edge.runtime.acknowledge import acknowledge
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.store import TRAIN, Store

CONFIG = LearningConfig()


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(Path(__file__).parents[1] / "runtime" / "golden" / "bundle")


class Process:
    """Stands in for `TrainerProcess`: keeps what it is sent."""

    def __init__(self, starts=True):
        self.starting, self.n_unread, self.killed, self.sent = False, 0, False, []
        self.begin, self._starts = threading.Event(), starts

    def start(self):
        assert self.begin.wait(20)
        return self._starts

    def send(self, message):
        self.sent.append(unpack(message))

    def dismiss(self):
        self.killed = True

    kill = dismiss

    def kinds(self):
        return [kind for kind, _, _ in self.sent]

    def upto(self):
        return [facts["upto"] for kind, facts, _ in self.sent if kind == "learn"]


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@pytest.fixture
def store(bundle, quick_path):
    """A store with 50 labels, of which one in twenty is held out."""
    with Store(quick_path / "s") as opened:
        model, perception = LearnedModel.blank(bundle, CONFIG), Perception(bundle)
        acknowledge(model, frames(50), perception.perceive(frames(50)), opened)
        yield opened


def make_sync(process, store, last_seq=50):
    return TrainerSync(process, store, lambda: CLASSES, lambda: last_seq, None, {"upto": 0}, {})


def learn(upto):
    return pack("learn", {"upto": upto}, {})


def test_labels_of_the_log_come_before_those_that_are_taught_meanwhile(store):
    process = Process()
    sync = make_sync(process, store)
    assert process.starting
    sync.send(0, pack("budget", {}, {}))
    sync.send(51, learn(51))
    process.begin.set()
    until(lambda: process.upto()[-1:] == [51])
    sync.send(52, learn(52))
    assert process.kinds()[:2] == ["start", "budget"] and not process.starting
    trained = [x.seq for x in store.labels if x.use == TRAIN]
    sent = [len(arrays["indices"]) for kind, _, arrays in process.sent[2:-2]]
    assert sum(sent) == len(trained) < 50
    assert process.upto()[-3:] == [trained[-1], 51, 52]


def test_a_label_that_is_in_the_log_already_is_not_sent_twice(store):
    process = Process()
    sync = make_sync(process, store)
    sync.send(50, learn(50))  # taught after the last one was read, or before: it does not matter
    process.begin.set()
    sync.send(51, learn(51))
    until(lambda: process.upto()[-1:] == [51])
    assert process.upto().count(50) == 1 and process.upto() == sorted(process.upto())


def test_a_trainer_that_is_not_wanted_any_more_ends_as_soon_as_it_is_there(store):
    process = Process()
    sync = make_sync(process, store)
    sync.cancel()
    process.begin.set()
    until(lambda: process.killed)
    sync.send(0, pack("budget", {}, {}))
    assert process.sent == []


def test_a_trainer_that_cannot_be_told_everything_is_ended(store, monkeypatch, caplog):
    def refuse(*_):
        raise StateError("cannot read")

    process = Process()
    monkeypatch.setattr(store.labels, "with_latents", refuse)
    make_sync(process, store)
    process.begin.set()
    until(lambda: process.killed)
    assert "cannot be sent what it needs" in caplog.text


def test_reports_add_up_and_only_the_newest_candidate_is_kept(bundle):
    trainer = BackgroundTrainer(bundle, CONFIG)
    levels, diverged = len(bundle.levels), []
    for n in (1, 2):
        report = {"steps": [n] * levels, "steps_s": [0.5] * levels, "to_go": 10 - n}
        trainer.process.inbox.put(("report", report, {}))
        trainer.process.inbox.put(("candidate", {"number": n}, {}))
    trainer.process.inbox.put(("diverged", {}, {}))
    trainer.poll(lambda: diverged.append(1))
    assert (trainer.n_steps, trainer.steps_s) == ([3] * levels, [1.0] * levels)
    assert trainer.report == {"to_go": 8}
    assert trainer.candidate[1] == {"number": 2} and diverged == [1]
    trainer.stop()
    assert trainer.candidate is None and trainer.report == {}


def test_labels_are_handed_over_with_features_only_if_those_of_the_bundle_answer(bundle):
    trainer, sent = BackgroundTrainer(bundle, CONFIG), []

    class Sync:
        def send(self, upto, message):
            sent.append((upto, unpack(message)))

    model, perception = LearnedModel.blank(bundle, CONFIG), Perception(bundle)
    _, batch = acknowledge(model, frames(8), perception.perceive(frames(8)))
    trainer.learn(batch, with_features=True)  # nobody is there to hear it
    trainer._sync = Sync()
    trainer.learn(batch, with_features=True)
    trainer.learn(batch, with_features=False)
    shapes = [arrays["features"].shape for _, (_, _, arrays) in sent]
    assert shapes == [(8, bundle.feature_width), (0,)]
    assert [upto for upto, _ in sent] == [8, 8]
    np.testing.assert_array_equal(sent[0][1][2]["indices"], np.arange(8) % 4)
