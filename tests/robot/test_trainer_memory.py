"""The trainer under a memory limit: what it needs, with smaller batches, and refused below that."""

import json
import logging
import threading
import time

import pytest

from plr_edge.boards import boards
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.robot import trainer_memory
from plr_edge.robot.options import RobotOptions, make_robot
from plr_edge.robot.trainer_memory import MEMORY_AIM, TrainerNeeds, fitting_needs, needs_of
from plr_edge.runtime.consolidation import parse_budget


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


def until(condition, timeout=180):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize("divisor", [1, 8])
def test_a_trainer_lives_within_what_it_was_said_to_need(bundle, tmp_path, demo_frames, divisor):
    needed = needs_of(bundle, LearningConfig(), EngineConfig(), divisor).by_level[0]
    limit = RobotOptions(memory_limit=f"{needed / MEMORY_AIM / 1e6 + 1:.0f}MB")
    robot = make_robot(bundle, tmp_path / "s", limit)
    assert robot.model.trainer.batch == 64 // divisor
    thread = threading.Thread(target=robot.run)
    thread.start()
    try:
        ask = lambda act: robot.call(act).result(60)  # noqa: E731
        for name in dict.fromkeys(frame.label for frame in demo_frames):
            images = [frame.image for frame in demo_frames if frame.label == name]
            ask(lambda n=name, i=images: robot.requests.teach(n, images=i))
        until(lambda: robot.model.learned.version >= 1)
        consolidation = robot.governor_loop.consolidation
        until(lambda: robot.model.trainer.report.get("to_go") == 0)
        ask(lambda: consolidation.start(parse_budget("100GMAC")))
        until(lambda: not consolidation.running)
        assert consolidation.last["n_steps"] > 5, consolidation.last
        assert robot.health()["trainer"]["batch"] == 64 // divisor
        assert robot.model.trainer.process.n_deaths == 0
    finally:
        robot.stop()
        thread.join(60)
        robot.model.close()


def test_near_the_limit_batches_are_smaller_and_it_is_said(bundle, monkeypatch, caplog):
    sizes = {1: (600, 590, 580, 570, 560), 2: (500, 490, 480, 470, 460),
             4: (420, 415, 410, 405, 400), 8: (380, 375, 370, 365, 360)}  # fmt: skip
    monkeypatch.setattr(
        trainer_memory, "needs_of",
        lambda *a: TrainerNeeds(a[3], tuple(10**6 * n for n in sizes[a[3]])),
    )  # fmt: skip

    def fitting(limit):
        return fitting_needs(bundle, LearningConfig(), EngineConfig(), limit)

    with caplog.at_level(logging.WARNING):
        assert fitting(700_000_000).divisor == 1
        assert not caplog.messages
        half = fitting(500_000_000)
    assert half.divisor == 2
    assert "batches of 32 samples instead of 64" in caplog.messages[0]
    assert half.allowed(500_000_000) == [False, False, False, True, True]
    assert fitting(379_000_000).allowed(379_000_000) == [False] * 4 + [True]
    with pytest.raises(ConfigError, match="needs 360 MB with its smallest batches; give at least"):
        fitting(378_000_000)


def test_it_is_measured_once(bundle, monkeypatch):
    first = needs_of(bundle, LearningConfig(), EngineConfig(), 8)
    assert list(first.by_level) == sorted(first.by_level, reverse=True)
    monkeypatch.setattr(trainer_memory, "in_child", lambda *_: pytest.fail("measured again"))
    assert needs_of(bundle, LearningConfig(), EngineConfig(), 8) == first
    with pytest.raises(pytest.fail.Exception, match="again"):  # other settings need other memory
        needs_of(bundle, LearningConfig(memory_bytes=16_000_000), EngineConfig(), 8)


def test_a_cache_that_is_damaged_is_measured_again(bundle, monkeypatch):
    needs = needs_of(bundle, LearningConfig(), EngineConfig(), 8)
    file = trainer_memory._remembered(
        bundle, LearningConfig().with_smaller_batches(8), EngineConfig()
    )
    file.write_text("[")
    measured = (f"warning\n{json.dumps([5, 4, 3, 2, 1])}\n", 7)
    monkeypatch.setattr(trainer_memory, "in_child", lambda *_: measured)
    assert needs_of(bundle, LearningConfig(), EngineConfig(), 8).by_level == (7, 4, 3, 2, 1)
    file.write_text(json.dumps({"by_level": needs.by_level}))


def test_a_limit_that_is_too_low_is_refused_with_the_figure(bundle, tmp_path):
    least = needs_of(bundle, LearningConfig(), EngineConfig(), 8).by_level[-1]
    for limit in (least, least // 2, 1_000_000):
        with pytest.raises(ConfigError, match=r"needs .* MB with its smallest batches"):
            make_robot(bundle, tmp_path / "s", RobotOptions(memory_limit=f"{limit}B"))
    assert not (tmp_path / "s").exists()


def test_budgets_of_the_boards_are_ones_that_work(bundle):
    """Here, as on any machine that was measured; a board whose trainer needs more says so."""
    needed = needs_of(bundle, LearningConfig(), EngineConfig()).by_level[0]
    limits = {board.name: board.budget.memory_bytes for board in boards()}
    assert any(limits.values())
    for name, limit in limits.items():
        assert limit is None or needed <= MEMORY_AIM * limit, name
