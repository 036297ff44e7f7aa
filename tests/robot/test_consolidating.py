"""Consolidation of a running robot, through the robot itself."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

import live_robots
import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.robot import consolidating
from plr_edge.runtime.consolidation import ConsolidationBudget, parse_budget
from plr_edge.store import Store


def ask(robot, act, timeout=60):
    return robot.call(act).result(timeout)


def until(condition, timeout=180):  # a niced trainer on a busy machine takes its time
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@contextlib.contextmanager
def running(bundle_path, state, **config):
    with live_robots.running(bundle_path, state, **config) as robot:
        robot.told = []
        robot.listeners.append(lambda kind, facts: robot.told.append((kind, facts)))
        yield robot


@pytest.fixture
def robot(bundle_path, tmp_path):
    with running(bundle_path, tmp_path / "s") as made:
        yield made


def teach(robot, demo_frames, n=6):
    for name in list(dict.fromkeys(frame.label for frame in demo_frames))[:n]:
        images = [frame.image for frame in demo_frames if frame.label == name]
        ask(robot, lambda n=name, i=images: robot.requests.teach(n, images=i))
    until(lambda: robot.model.trainer.report.get("to_go") == 0)
    until(lambda: robot.model.learned.version >= 1)


def consolidation(robot):
    return robot.governor_loop.consolidation


def right(robot, frames):
    answers = ask(robot, lambda: robot.requests.predict([f.image for f in frames]))
    return np.mean([a["top"][0][0] == f.label for a, f in zip(answers, frames, strict=True)])


def told(robot, phase):
    return [f for kind, f in list(robot.told) if kind == "consolidation" and f["phase"] == phase]


def test_it_trains_the_blocks_and_publishes_through_the_gate(robot, demo_frames):
    teach(robot, demo_frames)
    one, version = consolidation(robot), robot.model.learned.version
    assert one.banked_macs == 1.5 * robot.model.bundle.perception_macs * one.n_new > 0
    facts = ask(robot, lambda: one.start(parse_budget("200GMAC")))
    assert facts["now"]["budget"] == "200GMAC" and facts["now"]["phase"] == "training"
    assert (robot.state, "consolidating" in robot.reason) == ("learning", True) or one.running
    with pytest.raises(StreamError, match="stop it first"):
        ask(robot, lambda: one.start(parse_budget("1s")))
    until(lambda: not one.running)
    last = one.last
    assert last["published"] and last["n_steps"] > 10 and 0 < last["macs"] < 300e9
    assert robot.model.learned.version > version and robot.model.learned.has_moved
    assert one.banked_macs == 0
    assert told(robot, "began") and told(robot, "ended")[0]["last"] == last
    assert right(robot, demo_frames) > 0.95
    progress = [f["consolidation"] for kind, f in robot.told if kind == "status"]
    assert any(p and p["share"] > 0 and p["left_s"] is not None for p in progress)
    # and learning goes on
    version = robot.model.learned.version
    ask(robot, lambda: robot.requests.teach("more", images=[demo_frames[0].image[:, ::-1]]))
    until(lambda: robot.model.learned.version > version)
    assert list(robot.model.trainer.report)  # with the rates of before: see test_cycle_is_...


def test_it_can_be_stopped_at_any_instant_and_keeps_what_it_gained(robot, demo_frames):
    with pytest.raises(StreamError, match="fewer than two classes"):
        ask(robot, lambda: consolidation(robot).start(parse_budget("1s")))
    teach(robot, demo_frames)
    one = consolidation(robot)
    with pytest.raises(StreamError, match="nothing is being consolidated"):
        ask(robot, one.stop)
    ask(robot, lambda: one.start(parse_budget("1h")))
    until(lambda: one.facts()["now"]["n_steps"] > 3)
    assert 0 <= one.facts()["now"]["share"] < 0.5
    start = time.monotonic()
    ask(robot, one.stop)
    until(lambda: not one.running)
    assert time.monotonic() - start < 30
    assert one.last["stopped"] and one.last["n_steps"] > 3
    ask(robot, lambda: robot.pause(True))
    with pytest.raises(StreamError, match="paused"):
        ask(robot, lambda: one.start(parse_budget("1s")))


def test_a_trainer_that_is_killed_ends_the_cycle_and_nothing_is_lost(
    bundle_path, tmp_path, demo_frames
):
    with running(bundle_path, tmp_path / "s") as robot:
        teach(robot, demo_frames)
        one, version = consolidation(robot), robot.model.learned.version
        before = right(robot, demo_frames)
        ask(robot, lambda: one.start(parse_budget("30min")))
        until(lambda: one.facts()["now"]["n_steps"] > 2)
        robot.model.trainer.process.child.send_signal(signal.SIGKILL)
        until(lambda: not one.running)
        assert one.last["outcome"].startswith("interrupted") and not one.last["published"]
        assert robot.model.learned.version == version and right(robot, demo_frames) == before
        assert one.banked_macs > 0  # it is still owed
        until(lambda: robot.model.trainer.process.alive and robot.model.trainer.report)
        until(lambda: robot.model.trainer.report.get("to_go") == 0)
        ask(robot, lambda: one.start(parse_budget("50GMAC")))
        until(lambda: not one.running)
        assert one.last["n_steps"] > 0 and not one.last["outcome"].startswith("interrupted")
    with Store(tmp_path / "s") as store:
        assert any(kind == "consolidation" for _, kind, _ in store.events)


def test_labels_are_answered_during_a_cycle_and_kept(robot, demo_frames):
    taught = list(dict.fromkeys(frame.label for frame in demo_frames))
    teach(robot, demo_frames, n=4)
    one = consolidation(robot)
    ask(robot, lambda: one.start(parse_budget("1h")))
    until(lambda: one.facts()["now"]["n_steps"] > 1)
    new = [frame for frame in demo_frames if frame.label == taught[4]]
    ask(robot, lambda: robot.requests.teach(taught[4], images=[f.image for f in new[:6]]))
    assert one.running
    assert right(robot, new[6:]) >= 0.5  # at once, whatever the trainer does
    steps = one.facts()["now"]["n_steps"]
    until(lambda: one.facts()["now"]["n_steps"] > steps)  # and the cycle goes on
    ask(robot, one.stop)
    until(lambda: not one.running)
    until(lambda: robot.model.learned.classifier.rehearsed.shape[0] == 5)
    assert right(robot, new) >= 0.5


def test_an_undo_ends_the_cycle(robot, demo_frames):
    teach(robot, demo_frames)
    one = consolidation(robot)
    ask(robot, lambda: one.start(parse_budget("1h")))
    until(lambda: one.facts()["now"]["n_steps"] > 1)
    name = demo_frames[0].label
    assert ask(robot, lambda: robot.requests.undo(name=name))["undone"] == 12
    until(lambda: not one.running)
    assert one.last["outcome"].startswith("interrupted")
    answers = ask(robot, lambda: robot.requests.predict([demo_frames[0].image]))
    assert name not in [label for label, _ in answers[0]["top"]]


def test_what_the_gate_refuses_does_not_answer(robot, demo_frames, monkeypatch):
    from plr_edge.runtime.publish_gate import Verdict

    teach(robot, demo_frames)
    one, version = consolidation(robot), robot.model.learned.version
    gains = list(one.worth.gains)
    bad = Verdict(passed=False, reason="worse", n=40, before=1.0, after=0.5, false_alarm=0.0)
    monkeypatch.setattr("plr_edge.runtime.validation.decide", lambda *_: bad)
    ask(robot, lambda: one.start(parse_budget("100GMAC")))
    until(lambda: not one.running)
    assert one.last["outcome"] == "refused by the publish gate: worse"
    assert robot.model.learned.version == version and not robot.model.learned.has_moved
    level = [level.name for level in robot.model.bundle.levels].index(one.last["level"])
    assert one.worth.gains[level] < gains[level]  # and it is tried there less soon


def test_an_idle_robot_spends_what_its_labels_banked(
    bundle_path, tmp_path, demo_frames, monkeypatch
):
    monkeypatch.setattr(consolidating, "IDLE_S", 2.0)
    monkeypatch.setattr(consolidating, "_LEAST_STEPS", 4)
    with running(bundle_path, tmp_path / "s") as robot:
        monkeypatch.setattr(robot.governor_loop, "_is_busy", lambda reading: False)
        teach(robot, demo_frames)
        one = consolidation(robot)
        until(lambda: one.last is not None)
        assert one.last["asked"] == "idle" and one.last["n_steps"] > 0
        assert one.banked_macs == 0 and one.n_new == 0
        time.sleep(4)
        assert not one.running and len(told(robot, "began")) == 1  # nothing new, nothing to spend
        assert ask(robot, robot.requests.save)
    with running(bundle_path, tmp_path / "s") as robot:  # it is remembered
        assert consolidation(robot).n_new == 0


def test_a_busy_robot_waits_and_a_charging_one_does_not(robot, demo_frames, monkeypatch):
    monkeypatch.setattr(consolidating, "IDLE_S", 0.5)
    monkeypatch.setattr(consolidating, "_LEAST_STEPS", 2)
    one, begun = consolidation(robot), []
    tick = one.tick
    monkeypatch.setattr(one, "tick", lambda **_: None)  # this machine may be busy, or not
    teach(robot, demo_frames)
    monkeypatch.setattr(one, "start", lambda budget, asked: begun.append((budget, asked)))
    for _ in range(3):
        time.sleep(0.6)
        ask(robot, lambda: tick(busy=True, charging=False))
    assert begun == []
    ask(robot, lambda: tick(busy=True, charging=True))
    time.sleep(0.6)
    ask(robot, lambda: tick(busy=True, charging=True))
    assert [asked for _, asked in begun] == ["charging"]
    assert begun[0][0].seconds == 1800 and begun[0][0].macs >= one.banked_macs


def test_a_cycle_leaves_the_learner_as_it_was_between_two_steps(bundle_path, demo_frames):
    from plr_edge.replay.schedule import make_schedule
    from plr_edge.runtime.consolidation import Cycle
    from plr_edge.runtime.session import Session

    with Session(open_bundle(bundle_path), None, LearningConfig(train_ratio=0)) as session:
        session.observe_many(demo_frames)
        learner = session.learner
        rates, schedule = learner.rates, learner.schedule
        now = [0.0]
        internal = make_schedule("internal", learner.levels)
        cycle = Cycle(learner, internal, ConsolidationBudget(seconds=10), lambda: now[0])
        shares = []
        while cycle.step() is not None:
            assert (learner.rates, learner.schedule) == (rates, schedule)
            learner.step()  # what a label asks for comes in between
            now[0] += 1.0
            if now[0] == 5.0:
                now[0] += 100.0
                cycle.skip(100.0)
            shares.append(cycle.progress.share)
        assert cycle.n_steps == len(shares) == 10 and shares == sorted(shares)
        assert cycle.progress.share == 1.0 and cycle.progress.left_s == 0
        assert cycle.macs > 0


def test_training_goes_on_while_other_programs_take_the_processor(robot, demo_frames, monkeypatch):
    """Frames that wait for a processor held it at 8 steps in six minutes before."""
    monkeypatch.setattr(robot.sensors, "_pressure", lambda: 0.85)
    monkeypatch.setattr(robot.sensors, "_load", lambda: (0.02, 1.9))
    stop = threading.Event()

    def frames():
        while not stop.is_set():
            yield demo_frames[0]
            time.sleep(0.1)

    threading.Thread(target=robot.feed, args=(frames(),), daemon=True).start()
    try:
        until(lambda: robot.governor_loop.frames_per_s > 0)
        until(lambda: robot.governor_loop.decision.steps_per_s <= 2 * robot.governor.floor)
        teach(robot, demo_frames)
        until(lambda: sum(robot.model.trainer.n_steps) >= 400)  # the trainer has caught up
        # and when training is given nothing at all, it is said with figures
        robot.model.trainer.process.child.send_signal(signal.SIGSTOP)
        robot.model.trainer.report["to_go"] = 400
        until(lambda: (robot.health()["starved"] or {"steps_per_s": 9})["steps_per_s"] < 1)
        until(lambda: robot.state == "starved")
        assert robot.health()["starved"]["wanted_steps_per_s"] > 10
        assert "other programs take 1.9 of" in robot.reason
        robot.model.trainer.process.child.send_signal(signal.SIGCONT)
        until(lambda: robot.state != "starved")
    finally:
        stop.set()
