"""Starts that fail: a power cut is none, and what was kept out of use comes back by itself."""

import threading
import time

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.robot import restart_guard
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.restart_guard import RestartGuard
from plr_edge.robot.robot import Robot
from plr_edge.runtime.session import Session
from plr_edge.store import Store


@pytest.fixture
def boot(tmp_path):
    file = tmp_path / "boot_id"
    file.write_text("boot 0\n")
    return file


def start(path, boot):
    """A start that ends without a word."""
    with Store(path) as store:
        return RestartGuard(store, boot)


def test_power_cuts_are_no_failed_starts(tmp_path, boot):
    for i in range(12):
        guard = start(tmp_path / "s", boot)
        assert guard.n_failed == 0 and not guard.trouble
        boot.write_text(f"boot {i + 1}\n")


@pytest.mark.parametrize("cuts", [1, 2, 5])
def test_crashes_between_power_cuts_are_counted(tmp_path, boot, cuts):
    n_failed = 0
    for i in range(4):
        assert start(tmp_path / "s", boot).n_failed == n_failed
        n_failed += 1  # it crashed
        for k in range(cuts):
            assert start(tmp_path / "s", boot).n_failed == n_failed
            boot.write_text(f"boot {i} {k}\n")
    assert start(tmp_path / "s", boot).n_failed == 4


def test_where_the_kernel_names_no_boot_every_start_counts(tmp_path):
    nothing = tmp_path / "nothing"
    assert [start(tmp_path / "s", nothing).n_failed for _ in range(3)] == [0, 1, 2]


def test_a_count_of_an_earlier_version_goes_on(tmp_path, boot):
    with Store(tmp_path / "s") as store:
        store.facts.keep(starts=2)
    assert [start(tmp_path / "s", boot).n_failed for _ in range(4)] == [2, 3, 4, 5]


def test_each_failure_without_anything_learned_makes_the_next_attempt_wait_longer(tmp_path, boot):
    waits = []
    for _ in range(14):
        guard = start(tmp_path / "s", boot)
        waits.append(guard.healthy_s)
    assert waits[:6] == [30.0] * 6 and waits[6:9] == [60.0, 120.0, 240.0]
    assert waits[-1] == 3600.0 and "after 3600 s" in guard.trouble


def test_what_was_kept_out_of_use_is_loaded_beside_the_frames(
    bundle_path, tmp_path, demo_frames, monkeypatch
):
    """Five kills in a row; then the robot answers with what it knew, without another start."""
    monkeypatch.setattr(restart_guard, "HEALTHY_S", 3.0)
    bundle, state = open_bundle(bundle_path), tmp_path / "s"
    with Session(bundle, state, LearningConfig()) as session:
        session.observe_many(demo_frames)
        session.finish()
    for _ in range(5):
        with Store(state) as store:
            RestartGuard(store)
    model = OnlineModel(bundle, state, LearningConfig())
    robot = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
    loop = threading.Thread(target=robot.run)
    loop.start()
    try:
        until(lambda: robot.state == "factory fallback")
        assert not robot.serves and robot.model.learned.classes == []
        image = demo_frames[0].image
        with pytest.raises(StreamError, match="used again after"):
            robot.call(lambda: robot.requests.teach("a", images=[image])).result(20)
        until(lambda: len(robot.model.learned.classes) == 6)
        until(lambda: robot.serves and robot.state != "factory fallback")
        images = [frame.image for frame in demo_frames[::6]]
        answers = robot.call(lambda: robot.requests.predict(images)).result(60)
        right = [a["top"][0][0] == f.label for a, f in zip(answers, demo_frames[::6], strict=True)]
        assert sum(right) >= 0.9 * len(right)
        taught = robot.call(lambda: robot.requests.teach("a", images=[image])).result(60)
        assert taught["taught"] == 1
        until(lambda: robot.model.store.facts.get("starts") == 0)
    finally:
        robot.stop()
        loop.join(30)
        model.close()
    with Store(state) as store:
        assert store.last_seq == len(demo_frames) + 1


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
