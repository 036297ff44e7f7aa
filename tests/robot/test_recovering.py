"""A start with many labels: the newest generation answers at once, the labels follow beside it."""

import threading
import time
from pathlib import Path

import pytest
from tiny_network import CLASSES, frames

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError
from plr_edge.robot import recovering
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.runtime.acknowledge import acknowledge
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.perception import Perception
from plr_edge.store import Store, back_up, restore

CONFIG = LearningConfig()


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(Path(__file__).parents[1] / "runtime" / "golden" / "bundle")


@pytest.fixture
def beside(monkeypatch):
    """However few labels there are, they are learned beside the frames."""
    monkeypatch.setattr(recovering, "_SHORT", 0)


def log_labels(bundle, state, n, seed=0):
    """Teach labels without a robot, and write no generation."""
    with Store(state) as store:
        perception = Perception(bundle)
        model = LearnedModel.blank(bundle, CONFIG)
        made = frames(n, seed)
        for start in range(0, n, 40):
            part = made[start : start + 40]
            acknowledge(model, part, perception.perceive(part), store)
        return sum(x.status == "learned" for x in store.labels)


def until(condition, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def opened(bundle, state):
    model = OnlineModel(bundle, state, CONFIG)
    return Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))


class Running:
    """A robot whose loop runs on another thread."""

    def __init__(self, bundle, state):
        self.robot = opened(bundle, state)
        self.thread = threading.Thread(target=self.robot.run)

    def __enter__(self):
        self.thread.start()
        return self.robot

    def __exit__(self, *_):
        self.robot.stop()
        self.thread.join(60)
        self.robot.model.close()


def ask(robot, act):
    return robot.call(act).result(60)


def test_the_generation_answers_while_later_labels_are_learned(
    bundle, tmp_path, beside, monkeypatch
):
    with Running(bundle, tmp_path / "s") as robot:
        ask(robot, lambda: robot.requests.teach("ball", images=[frames(1)[0].image]))
    n_learned = log_labels(bundle, tmp_path / "s", 200)
    slow = threading.Event()
    relearn = LearnedModel.relearn

    def waiting(self, *arguments):
        slow.wait(30)
        return relearn(self, *arguments)

    monkeypatch.setattr(LearnedModel, "relearn", waiting)
    with Running(bundle, tmp_path / "s") as robot:
        ball = frames(1)[0].image
        answers = robot.call(lambda: robot.requests.predict([ball]), changes=False).result(20)
        assert answers[0]["class"] == "ball" and robot.model.learned.classes == ["ball"]
        taught = robot.call(lambda: robot.requests.teach("pen", images=[frames(4)[3].image]))
        time.sleep(0.2)
        assert not taught.done()  # what changes what was learned waits for its turn
        slow.set()
        assert taught.result(60)["first"] == 202
        assert set(robot.model.learned.classes) == set(CLASSES)
        assert robot.model.learned.n_taught == n_learned + 1
        assert len(robot.model.learned.history.labels) == 202


def test_a_robot_that_is_ended_meanwhile_saves_what_it_has_learned_and_no_more(
    bundle, tmp_path, beside, monkeypatch
):
    n_learned = log_labels(bundle, tmp_path / "s", 400)
    begun, relearn = threading.Event(), LearnedModel.relearn

    def slow(self, *arguments):
        begun.set()
        time.sleep(0.2)
        return relearn(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LearnedModel, "relearn", slow)
        with Running(bundle, tmp_path / "s"):
            begun.wait(30)
    with Store(tmp_path / "s") as store:
        upto = store.generations.read().upto
        assert 0 < upto < 400
    with Running(bundle, tmp_path / "s") as robot:
        until(lambda: robot.model.last_seq == 400)
        assert robot.model.learned.n_taught == n_learned


def test_labels_that_cannot_be_read_again_make_it_degraded_not_dead(
    bundle, tmp_path, beside, monkeypatch
):
    log_labels(bundle, tmp_path / "s", 50)

    def refuse(self, *_):
        raise StateError("the disk is gone")

    monkeypatch.setattr(LearnedModel, "relearn", refuse)
    with Running(bundle, tmp_path / "s") as robot:
        until(lambda: robot.state == "degraded")
        assert "the disk is gone" in robot.reason


def test_what_was_taught_is_saved_at_the_end_although_nothing_was_published(bundle, tmp_path):
    with Running(bundle, tmp_path / "s") as robot:
        robot.pause(True)
        for frame in frames(8):
            ask(robot, lambda f=frame: robot.requests.teach(f.label, images=[f.image]))
        answer = ask(robot, robot.requests.save)
        assert answer["saved"] and answer["reason"] == "" and answer["version"] == 0
    perception = Perception.from_state(bundle, tmp_path / "s")
    answers = perception.predict_many(frames(8, seed=1))
    assert [a.label for a in answers] == [f.label for f in frames(8, seed=1)]


def test_nothing_taught_is_not_saved_and_the_answer_says_why(bundle, tmp_path):
    with Running(bundle, tmp_path / "s") as robot:
        answer = ask(robot, robot.requests.save)
    assert (answer["saved"], answer["reason"]) == (False, "nothing was taught yet")


def test_a_running_robot_goes_on_with_a_backup(bundle, tmp_path):
    with Running(bundle, tmp_path / "s") as robot:
        for frame in frames(8):
            ask(robot, lambda f=frame: robot.requests.teach(f.label, images=[f.image]))
        assert back_up(tmp_path / "s", tmp_path / "copy").labels == 8
        other = frames(1, seed=5)[0].image  # not the same frame under a second name
        ask(robot, lambda: robot.requests.teach("later", images=[other]))
        assert "later" in robot.model.learned.classes
        restore(tmp_path / "copy", tmp_path / "s")
        until(lambda: robot.model.last_seq == 8)
        assert "later" not in robot.model.learned.classes
        assert not robot.model.store.is_restore_offered
        answers = ask(robot, lambda: robot.requests.predict([f.image for f in frames(4, 1)]))
        assert [a["class"] for a in answers] == list(CLASSES)
        taught = ask(robot, lambda: robot.requests.teach("new", images=[frames(1)[0].image]))
        assert taught["first"] == 9


def test_keys_act_again_once_a_backup_has_replaced_what_they_did(bundle, tmp_path):
    """Those of labels in the backup do not, whether the robot or an operation remembers them."""
    picture = {f.label: f.image for f in frames(4)}
    later = frames(4, seed=5)

    with Running(bundle, tmp_path / "s") as robot:

        def teach(name, key, image):
            requests = robot.requests
            begun = robot.operations.begin(
                "teach", lambda: requests.teach(name, key=key, images=[image]), key
            )
            return begun.outcome.result(30)

        first = [teach(name, f"kept-{name}", picture[name]) for name in CLASSES]
        back_up(tmp_path / "s", tmp_path / "copy")
        for i, name in enumerate(("later", "latest")):
            teach(name, f"lost-{name}", later[i].image)
        ask(robot, lambda: robot.requests.undo(last=1, key="lost-undo"))
        restore(tmp_path / "copy", tmp_path / "s")
        until(lambda: robot.model.last_seq == 4 and "lost-undo" not in robot.requests.answers)
        assert set(robot.requests.answers) == {f"kept-{name}" for name in CLASSES}
        assert set(robot.requests.thumbnails) == set(CLASSES)
        assert [teach(n, f"kept-{n}", picture[n]) for n in CLASSES] == first
        assert robot.model.last_seq == 4
        assert teach("later", "lost-later", later[0].image)["first"] == 5
        undone = ask(robot, lambda: robot.requests.undo(last=1, key="lost-undo"))
        assert undone["undone"] == 1 and "later" not in robot.model.learned.classes
