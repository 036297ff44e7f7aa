"""Frames that are too old are not taught, and the same frame under two names is questioned."""

import time

import numpy as np
import pytest
from live_robots import running

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.robot import recent_frames
from plr_edge.robot.online_model import OnlineModel
from plr_edge.store import QUARANTINED, Store


@pytest.fixture
def robot(bundle_path, tmp_path):
    with running(bundle_path, tmp_path / "s") as made:
        yield made


def teach(robot, label, **how):
    return robot.call(lambda: robot.requests.teach(label, **how)).result(30)


def show(robot, frames):
    for frame in frames:
        n = robot.stats.n_frames
        robot.put(frame)
        end = time.monotonic() + 30
        while robot.stats.n_frames == n and time.monotonic() < end:
            time.sleep(0.005)


def test_frames_that_are_too_old_are_not_taught(robot, demo_frames, monkeypatch):
    show(robot, demo_frames[:3])
    monkeypatch.setattr(recent_frames, "NEWEST_S", 1.0)
    time.sleep(1.2)
    with pytest.raises(StreamError, match=r"the newest frame is 1 s old; .* not taught"):
        teach(robot, "ball", last=2)
    stamp = robot.latest[0].stamp_ns
    assert teach(robot, "ball", stamp_ns=stamp)["taught"] == 1  # named, and not that old
    monkeypatch.setattr(recent_frames, "NAMED_S", 1.0)
    for named in ({"stamp_ns": stamp}, {"sequence": 3}):
        with pytest.raises(StreamError, match=r"that frame is . s old"):
            teach(robot, "ball", **named)
    show(robot, demo_frames[3:5])
    assert teach(robot, "ball", last=20)["taught"] == 2  # the old ones are left out
    assert robot.model.store.last_seq == 3


@pytest.mark.parametrize("how", ["last", "sequence", "images"])
def test_the_same_frame_under_another_name_is_quarantined(robot, demo_frames, how):
    show(robot, demo_frames[:2])
    chosen = {
        "last": {"last": 2}, "sequence": {"sequence": 2},
        "images": {"images": [frame.image for frame in demo_frames[:2]]},
    }[how]  # fmt: skip
    first = teach(robot, "ball", **chosen)
    again = teach(robot, "ball", **chosen)
    assert first["quarantined"] == again["quarantined"] == 0
    for name in ("other", "ghost"):
        answer = teach(robot, name, **chosen)
        assert answer["quarantined"] == answer["taught"] == first["taught"]
    rows = {"last": 2}  # the same frames, however they are given
    assert teach(robot, "third", **rows)["quarantined"] >= 1
    robot.call(lambda: robot.requests.undo(name="ball")).result(30)
    assert teach(robot, "other", **chosen)["quarantined"] == 0  # it was taken back
    held = [x for x in robot.model.store.labels if x.status == QUARANTINED]
    assert {x.name for x in held} == {"other", "ghost", "third"}
    assert not robot.model.learned.classes.count("ghost")


def test_a_questioned_label_is_still_questioned_after_a_restart(bundle_path, tmp_path):
    state = tmp_path / "s"
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    with running(bundle_path, state) as made:
        for name in ("a", "b"):
            teach(made, name, images=[image])
    with Store(state) as store:
        assert [x.status for x in store.labels] == ["learned", "quarantined"]
        store.confirm([2])
    model = OnlineModel(open_bundle(bundle_path), state, LearningConfig())
    assert model.learned.classes == ["a", "b"]
    model.close()
