"""A camera that delivers, but nothing that can be seen: the robot says so, and goes on."""

import threading
import time

import numpy as np
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot import feeding
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.stream import live_source
from plr_edge.stream.live_source import open_live


class Camera:
    """OpenCV's capture of a camera whose picture the test chooses."""

    make = None

    def __init__(self, *_):
        self.n = 0

    def isOpened(self):
        return True

    def read(self):
        time.sleep(0.01)
        self.n += 1
        return True, type(self).make(self.n)

    def release(self):
        pass


class FakeCv2:
    __version__, CAP_ANY = "5.0.0", 0
    VideoCapture = Camera

    @staticmethod
    def getBuildInformation():
        return "GStreamer: NO"


@pytest.fixture
def robot(bundle_path, tmp_path, monkeypatch):
    monkeypatch.setattr(live_source, "load", lambda *_, **__: FakeCv2)
    monkeypatch.setattr(live_source, "_FAILING_S", 0.2)
    monkeypatch.setattr(feeding, "_BLIND_S", 0.7)
    monkeypatch.setattr(feeding, "_STILL_S", 2.0)
    monkeypatch.setattr(feeding, "_LOOK_EVERY_S", 0.1)
    model = OnlineModel(open_bundle(bundle_path), tmp_path / "s", LearningConfig())
    model.trainer.process.given_up = True
    made = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(model.bundle.levels)))
    loop = threading.Thread(target=made.run)
    loop.start()
    yield made
    made.stop()
    loop.join(30)
    model.close()


def until(robot, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition(facts := robot.health()):
        assert time.monotonic() < end, facts
        time.sleep(0.02)
    return facts


def shown(robot, make):
    Camera.make = staticmethod(make)
    if robot.feeder.kind == "stream":
        robot.feeder.start(lambda stop: open_live("0", stop))


def noise(n, height=48, width=64):
    return np.random.default_rng(n).integers(0, 256, (height, width, 3), np.uint8)


USELESS = {
    "no pixels": lambda n: np.zeros((0, 0, 3), np.uint8),
    "no rows": lambda n: np.zeros((0, 64, 3), np.uint8),
    "no picture": lambda n: None,
    "no image at all": lambda n: np.zeros(7, np.uint8),
    "complex numbers": lambda n: np.ones((48, 64, 3), np.complex64),
}


@pytest.mark.parametrize("kind", USELESS)
def test_pictures_that_cannot_be_answered_are_no_sight(robot, kind):
    shown(robot, noise)
    until(robot, lambda facts: facts["frames"] > 5 and facts["serves"])
    shown(robot, USELESS[kind])
    facts = until(robot, lambda facts: not facts["serves"])
    assert facts["state"] == "degraded" and "camera 0" in facts["reason"]
    shown(robot, noise)
    n_frames = facts["frames"]
    until(robot, lambda facts: facts["frames"] > n_frames + 5 and facts["serves"])


def test_a_camera_that_changes_its_size_is_answered(robot):
    sizes = [(48, 64), (480, 640), (1, 1), (5, 300), (96, 96)]
    shown(robot, lambda n: noise(n, *sizes[n // 10 % len(sizes)]))
    facts = until(robot, lambda facts: facts["frames"] > 60)
    assert facts["failed"] == 0 and facts["serves"]


def test_a_camera_that_shows_the_same_for_ever_may_be_frozen(robot):
    shown(robot, noise)
    until(robot, lambda facts: facts["frames"] > 5)
    shown(robot, lambda n: noise(0))
    facts = until(robot, lambda facts: "the same picture for" in facts["reason"])
    assert "camera 0" in facts["reason"] and facts["state"] == "degraded" and facts["serves"]
    shown(robot, noise)
    until(robot, lambda facts: "the same picture" not in facts["reason"])


@pytest.mark.parametrize("what", ["noise of one bit", "a film", "a camera that sees noise"])
def test_what_is_not_frozen_is_not_called_so(what):
    still = feeding.Stillness()
    for n in range(200):
        image = np.full((48, 64, 3), 90, np.uint8)
        image[n % 48, :] ^= 1
        still.saw(noise(n) if what.endswith("noise") else image, float(n))
    assert still.trouble("camera 0") == ""
    if what == "a film":  # a paused film shows the same as long as it likes
        feeder = feeding.Feeder(lambda frame: None)
        frame = live_source.Frame(noise(0), None, 0, "film#0")
        for _ in range(3):
            feeder._take(frame, "film")
        assert feeder.stillness._digest == -1
