import numpy as np
import pytest

from plr_edge.robot.drift import Drift
from plr_edge.robot.recent_frames import NoveltyDetector, RecentFrame, thumbnail
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.stream.base import Frame


def filled(minutes, unknown_share, confidence):
    drift = Drift()
    for minute in range(minutes):
        for i in range(20):
            unknown = i < 20 * unknown_share(minute)
            drift.add(unknown=unknown, confidence=confidence(minute), now_s=60.0 * minute + i)
    return drift


def test_nothing_is_said_of_nothing_and_no_slope_of_nine_minutes():
    assert Drift().unknown_ratio is None
    drift = filled(9, lambda _: 0.1, lambda _: 0.5)
    assert drift.unknown_ratio == pytest.approx(0.1)
    assert drift.unknown_per_hour is None and drift.confidence_per_hour is None


def test_slopes_are_those_of_what_was_put_in():
    drift = filled(30, lambda minute: 0.05 * (minute // 6), lambda minute: 0.9 - 0.01 * minute)
    assert drift.confidence_per_hour == pytest.approx(-0.6)
    assert drift.unknown_per_hour == pytest.approx(0.5, abs=0.05)


def test_only_the_last_hour_counts():
    drift = filled(180, lambda minute: float(minute < 100), lambda minute: min(minute, 120) / 120)
    assert drift.unknown_ratio == 0.0
    assert drift.confidence_per_hour == pytest.approx(0.0)


def recent(number, feature):
    image = np.zeros((480, 640, 3), np.uint8)
    frame, row = Frame(image, None, number, "camera"), np.zeros((1, 4), np.float32)
    return RecentFrame.of(number, FrozenOutput((frame,), row, row, 0), feature)


ONE, OTHER = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)


def test_fifteen_unknown_frames_that_look_alike_are_asked_about_once():
    novelty = NoveltyDetector()
    completed = [i for i in range(1, 30) if novelty.update(recent(i, ONE), unknown=True)]
    assert completed == [15]
    assert [frame.sequence for frame in novelty.asked[15]] == list(range(1, 16))


@pytest.mark.parametrize("breaks", [{"unknown": False}, {"feature": OTHER}])
def test_a_run_that_is_broken_begins_anew(breaks):
    novelty = NoveltyDetector()
    for i in range(1, 15):
        assert not novelty.update(recent(i, ONE), unknown=True)
    feature = breaks.get("feature", ONE)
    assert not novelty.update(recent(15, feature), unknown=breaks.get("unknown", True))
    assert not novelty.update(recent(16, ONE), unknown=True)
    assert novelty.asked == {}


def test_the_newest_four_questions_are_kept():
    novelty = NoveltyDetector()
    for i in range(1, 91):
        novelty.update(recent(i, ONE), unknown=True)
    assert list(novelty.asked) == [45, 60, 75, 90]


@pytest.mark.parametrize("shape", [(480, 640, 3), (96, 96, 3), (1, 5000, 3), (97, 13, 3)])
def test_a_thumbnail_is_small_and_a_copy(shape):
    image = np.ones(shape, np.uint8)
    small = thumbnail(image)
    assert max(small.shape) <= 96 and small.shape[2] == 3 and not np.shares_memory(image, small)
    assert max(small.shape) >= min(max(shape), 48)
