"""A source that fails, ends, hangs or gives nothing: the robot says so and goes on."""

import threading
import time

import numpy as np
import pytest

from plr_edge.errors import StreamError
from plr_edge.robot import feeding
from plr_edge.robot.feeding import Feeder, Sight
from plr_edge.stream.base import Frame
from plr_edge.stream.live_source import LiveSource

FRAME = Frame(np.zeros((8, 8, 3), np.uint8), None, 0, "x")


@pytest.fixture
def fed(monkeypatch):
    monkeypatch.setattr(feeding, "_PAUSES_S", (0.02,))
    monkeypatch.setattr(feeding, "_HUNG_S", 0.2)
    monkeypatch.setattr(feeding, "_BLIND_S", 0.3)
    taken = []
    feeder = Feeder(lambda frame: (taken.append(frame), feeder.sight.saw(time.monotonic())))
    feeder.taken = taken
    yield feeder
    feeder.stop()


def until(feeder, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, feeder.trouble(time.monotonic())
        feeder.check(time.monotonic())
        time.sleep(0.01)


def trouble(feeder):
    return feeder.trouble(time.monotonic())


def source(frames, kind="camera", calls=None):
    return LiveSource(kind, f"{kind} 7", frames, calls)


def endless(_):
    while True:
        yield FRAME
        time.sleep(0.01)


def test_a_source_that_is_not_there_yet_is_opened_later(fed, monkeypatch):
    attempts = []

    def open_source(stop):
        attempts.append(stop)
        if len(attempts) < 3:
            raise StreamError("there is no folder", can_pass=True)
        return source(endless)

    monkeypatch.setattr(feeding, "_PAUSES_S", (1.0,))
    fed.start(open_source)
    assert trouble(fed) == "there is no folder; trying again"
    until(fed, lambda: fed.taken)
    assert len(attempts) == 3 and trouble(fed) == "" and fed.kind == "camera"


def test_what_no_attempt_mends_is_said_at_once(fed):
    def open_source(stop):
        raise StreamError("a text is no film")

    with pytest.raises(StreamError, match="no film"):
        fed.start(open_source)


@pytest.mark.parametrize("error", [RuntimeError("the driver fell over"), OSError(5, "I/O error")])
def test_a_driver_that_raises_is_opened_again(fed, error):
    opened = []

    def failing(_):
        yield FRAME
        raise error

    def open_source(stop):
        opened.append(stop)
        return source(failing if len(opened) == 1 else endless)

    fed.start(open_source)
    until(fed, lambda: len(fed.taken) > 5)
    assert len(opened) == 2 and trouble(fed) == ""


@pytest.mark.parametrize("where", ["read", "open"])
def test_a_driver_that_hangs_is_left_behind(fed, where):
    opened, wake = [], threading.Event()

    def hanging(self):
        yield FRAME
        with self.calls:
            wake.wait(30)
        yield FRAME

    def open_source(stop):
        opened.append(stop)
        if where == "open" and len(opened) == 2:
            wake.wait(30)
        return source(hanging if len(opened) == 1 else endless)

    fed.start(open_source)
    until(fed, lambda: "hangs in its driver" in trouble(fed))
    until(fed, lambda: len(fed.taken) > 10)
    assert trouble(fed) == "" and len(opened) == (2 if where == "read" else 3)
    assert opened[0].is_set() and not opened[-1].is_set()
    wake.set()
    until(fed, lambda: not [t for t in fed._hung if t.is_alive()])


def test_a_file_system_that_hangs_does_not_hold_up_the_start(fed, monkeypatch):
    monkeypatch.setattr(feeding, "_FIRST_S", 0.1)
    wake, opened = threading.Event(), []

    def open_source(stop):
        opened.append(stop)
        if len(opened) == 1:
            wake.wait(30)
        return source(endless)

    began = time.monotonic()
    fed.start(open_source)
    assert time.monotonic() - began < 5
    until(fed, lambda: "hangs" in trouble(fed))
    until(fed, lambda: fed.taken and trouble(fed) == "")
    wake.set()


def test_threads_that_hang_are_not_piled_up(fed):
    wake, opened = threading.Event(), []

    def hanging(self):
        with self.calls:
            wake.wait(60)
        yield FRAME

    def open_source(stop):
        opened.append(stop)
        return source(hanging)

    fed.start(open_source)
    until(fed, lambda: len(fed._hung) == feeding._MAX_HUNG)
    n = len(opened)
    for _ in range(50):
        fed.check(time.monotonic())
        time.sleep(0.01)
    assert len(opened) == n == feeding._MAX_HUNG and "hangs" in trouble(fed)
    wake.set()
    until(fed, lambda: len(opened) > n)


def test_a_source_that_is_silent_is_blind_unless_it_may_be(fed):
    quiet = threading.Event()

    def silent(_):
        yield FRAME
        quiet.wait(30)
        yield from endless(None)

    fed.start(lambda stop: source(silent))
    until(fed, lambda: trouble(fed) == "no frames come from the camera 7")
    quiet.set()
    until(fed, lambda: trouble(fed) == "")
    fed.stop()
    quiet.clear()
    other = Feeder(lambda frame: None)
    other.start(lambda stop: source(silent, "folder"))
    time.sleep(0.5)
    assert trouble(other) == ""
    other.stop()
    quiet.set()


def test_a_film_that_has_ended_says_so(fed):
    fed.start(lambda stop: source(lambda self: iter([FRAME] * 3), "film"))
    until(fed, lambda: trouble(fed) == "the film 7 has ended; no more frames come")
    assert len(fed.taken) == 3


@pytest.mark.parametrize(
    ("every_s", "limit_s"), [(0.03, 3.0), (1.0, 3.0), (5.0, 15.0), (60.0, 30.0)]
)
def test_how_long_a_frame_may_be_missing_follows_the_rate(every_s, limit_s):
    sight = Sight()
    assert sight.age_s(5.0) is None
    assert not sight.is_blind(2.9, 0.0) and sight.is_blind(3.1, 0.0)
    for i in range(20):
        sight.saw(i * every_s)
    newest = 19 * every_s
    assert sight.age_s(newest + 1.5) == pytest.approx(1.5)
    assert not sight.is_blind(newest + limit_s - 0.1, 0.0)
    assert sight.is_blind(newest + limit_s + 0.1, 0.0)
