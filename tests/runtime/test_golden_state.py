"""States that commit 9999be4 wrote, and what it answered with them.

`golden/` holds a bundle of `tiny_network`, a state that a session wrote, and one that a robot
wrote. Each has labels after its newest generation, and labels that were quarantined or undone.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_network import frames

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.session import Session

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
CONFIG = LearningConfig(
    memory_bytes=20_000, train_ratio=2.0, bits=4, canary=20, schedule="basic", seed=3
)
ENGINES = EngineConfig()


@pytest.fixture
def bundle():
    return open_bundle(GOLDEN / "bundle")


@pytest.fixture
def state(request, tmp_path):
    shutil.copytree(GOLDEN / request.param, tmp_path / "s")
    return tmp_path / "s"


def check_answers(perception, expected):
    predictions = perception.predict_many(frames(12, seed=5))
    assert [p.label for p in predictions] == [label for label, _, _ in expected]
    for prediction, (_, similarity, top) in zip(predictions, expected, strict=True):
        assert prediction.similarity == pytest.approx(similarity, abs=1e-4)
        assert [name for name, _ in prediction.top] == [name for name, _ in top]
        confidences = [share for _, share in prediction.top]
        assert confidences == pytest.approx([share for _, share in top], abs=1e-3)


def check_learned(learned, expected):
    for name in ("classes", "n_taught", "n_quarantined", "version", "verdict", "fell_back"):
        assert getattr(learned, name) == expected[name], name
    assert [list(learned.history.labels), list(learned.history.predicted)] == expected["history"]
    seqs, labels, offered = expected["holdout"]
    assert (learned.holdout.seqs.tolist(), learned.holdout.labels.tolist()) == (seqs, labels)
    assert learned.holdout.to_metadata()["offered"] == offered
    for name, values in expected["admission"].items():
        np.testing.assert_allclose(learned.label_filter.to_arrays()[name], values, rtol=1e-3)
    assert learned.classifier.unknown_below == pytest.approx(expected["unknown_below"], abs=1e-4)
    assert sorted(learned.weights) == expected["good"]
    total = sum(np.abs(array).sum() for array in learned.weights.values())
    assert total == pytest.approx(expected["good_sum"], rel=1e-4)
    rehearsed = np.abs(learned.classifier.rehearsed).sum()
    assert rehearsed == pytest.approx(expected["rehearsed_sum"], rel=1e-4)


@pytest.mark.parametrize("state", ["session"], indirect=True)
def test_a_session_goes_on_from_the_state_of_one(bundle, state):
    expected = EXPECTED["session"]
    with Session(bundle, state, CONFIG, ENGINES) as session:
        check_learned(session.learned, expected)
        check_answers(session.perception, expected["answers"])
        assert session.position("stream") == expected["position"]
        assert len(session.training.memory) == expected["memory"]
        cost = vars(session.learner.features.cost)
        assert cost["steps_per_level"] == expected["cost"]["steps_per_level"]
        session.observe_many(frames(20, seed=9))
        session.finish()
        assert session.learned.n_taught > expected["n_taught"]


@pytest.mark.parametrize("state", ["live"], indirect=True)
def test_a_robot_goes_on_from_the_state_of_one(bundle, state):
    expected = EXPECTED["live"]
    model = OnlineModel(bundle, state, CONFIG, ENGINES)
    try:
        check_learned(model.learned, expected)
        check_answers(model.perception, expected["answers"])
        assert (model.last_seq, model.checkpoint.upto) == (
            expected["last_seq"],
            expected["slow_upto"],
        )
        robot = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
        for key in expected["keys"]:  # each was answered before, so nothing is taught
            answer = robot.requests.teach("ball", key=key).result(0)
            assert answer["taught"] == (5 if key == "late" else 12)
        assert model.store.last_seq == expected["last_seq"]
    finally:
        model.close()


@pytest.mark.parametrize("state", ["session"], indirect=True)
def test_a_robot_goes_on_from_the_state_of_a_session(bundle, state):
    model = OnlineModel(bundle, state, CONFIG, ENGINES)
    try:
        expected = EXPECTED["session"]
        assert model.learned.classes == expected["classes"]
        assert model.learned.n_taught == expected["n_taught"]
    finally:
        model.close()


@pytest.mark.parametrize("state", ["live"], indirect=True)
def test_a_session_goes_on_from_the_state_of_a_robot(bundle, state):
    with Session(bundle, state, CONFIG, ENGINES) as session:
        check_learned(session.learned, EXPECTED["live"])
        check_answers(session.perception, EXPECTED["live"]["answers"])
        session.finish()


@pytest.mark.parametrize("state", ["session", "live"], indirect=True)
def test_perception_answers_with_it(bundle, state):
    shown = frames(12, seed=5)
    answers = Perception.from_state(bundle, state).predict_many(shown)
    assert [p.top[0][0] for p in answers] == [frame.label for frame in shown]
