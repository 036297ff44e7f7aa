import os
import signal

import numpy as np
import pytest
from learning import observe

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.runtime.adapt import adapt
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.session import Session
from plr_edge.stream import open_stream


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return open_bundle(bundle_path)


def test_a_frame_is_answered_before_it_is_learned(bundle, demo_frames):
    with Session(bundle, None, LearningConfig()) as session:
        predictions = observe(session, demo_frames)
    first = {}
    for i, (frame, prediction) in enumerate(zip(demo_frames, predictions, strict=True)):
        if first.setdefault(frame.label, i) == i:
            assert frame.label not in [name for name, _ in prediction.top]
    assert session.learned.history.accuracy > 0.8


def test_a_new_class_is_known_from_its_next_frame(bundle, demo_frames):
    with Session(bundle, None, LearningConfig(seed=1)) as session:
        observe(session, demo_frames[:60])
        new = [f for f in demo_frames if f.label == demo_frames[-1].label]
        observe(session, new[:1])
        names = [p.top[0][0] for p in session.perception.predict_many(new[1:6])]
    assert names.count(new[0].label) >= 4


def test_the_same_seed_gives_the_same_weights(bundle, demo_frames):
    weights = []
    for _ in range(2):
        with Session(bundle, None, LearningConfig(seed=5)) as session:
            observe(session, demo_frames)
            weights.append(session.learner.weights())
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


@pytest.mark.parametrize("level", [0, 2, 4])
def test_a_step_moves_only_the_blocks_from_its_level_up(bundle, demo_frames, level):
    shares = ",".join("1" if i == level else "0" for i in range(5))
    config = LearningConfig(schedule=shares, train_ratio=0)
    with Session(bundle, None, config) as session:
        observe(session, demo_frames[:30])
        before = session.learner.weights()
        rows = session.learner.classifier()
        assert session.learner.step() == level
        after = session.learner.weights()
    moved = {n.split(".")[0] for n, a in before.items() if not np.array_equal(a, after[n])}
    names = [x.name for x in bundle.levels[:-1]]
    assert moved == set(names[level:])
    assert not np.array_equal(rows, session.learner.classifier())


def test_cached_features_are_those_of_the_blocks_and_never_older_than_allowed(bundle, demo_frames):
    config = LearningConfig(schedule="basic", max_age_steps=2, train_ratio=2.0)
    with Session(bundle, None, config) as session:
        observe(session, demo_frames)
        learner = session.learner
        assert sum(learner.features.cost.steps_per_level) > 5
        assert learner.features.cost.age_max_steps <= 2
        slots = np.arange(len(session.training.memory))
        fresh = learner.features.at(4, slots, max_age_steps=0)
        learner.restore(learner.weights(), learner.classifier())  # with an empty cache
        np.testing.assert_allclose(learner.features.at(4, slots), fresh, atol=0.02)


def test_training_spends_no_more_than_it_may(bundle, demo_frames):
    config = LearningConfig(train_ratio=0.5, schedule="internal")
    with Session(bundle, None, config) as session:
        observe(session, demo_frames)
        allowed = 0.5 * len(demo_frames) * session.training.perception_macs
        one_step = session.learner.step_macs[0] * 64
        refits = session.learner.features.cost.refresh_macs
        assert 0 < session.learner.features.cost.train_macs <= allowed + one_step
        assert session.learner.features.cost.macs <= allowed + one_step + refits


def test_engines_and_torch_agree_on_learned_weights(bundle, demo_frames, tmp_path):
    import torch

    with Session(
        bundle, tmp_path / "s", LearningConfig(train_ratio=2.0, schedule="basic")
    ) as session:
        observe(session, demo_frames)
        session.finish()
        blocks = adaptive_blocks(bundle)
        blocks.load_state_dict(
            {n: torch.from_numpy(a) for n, a in session.learner.weights().items()}
        )
    perception = Perception.from_state(bundle, tmp_path / "s")
    seen = perception.perceive(demo_frames[:4])
    with torch.no_grad():
        window = bundle.window(session.config.window)
        latents = window.cut(seen.latents) if window else seen.latents
        expected = blocks(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(seen.features, expected, rtol=1e-3, atol=1e-3)


def test_a_session_that_stops_and_goes_on_knows_the_same(bundle, demo_frames, tmp_path):
    half = len(demo_frames) // 2
    with Session(bundle, tmp_path / "s", LearningConfig()) as session:
        observe(session, demo_frames[:half])
        session.finish()
    with Session(bundle, tmp_path / "s", LearningConfig()) as session:
        assert session.learned.n_taught == half
        observe(session, demo_frames[half:])
        session.finish()
        assert len(session.learned.classes) == 6
        assert len(session.learned.history.labels) == len(demo_frames)
    perception = Perception.from_state(bundle, tmp_path / "s")
    answers = perception.predict_many(demo_frames)
    right = [a.top[0][0] == f.label for a, f in zip(answers, demo_frames, strict=True)]
    assert np.mean(right) > 0.95


def test_divergence_is_dropped_and_answers_go_on(bundle, demo_frames):
    config = LearningConfig(blocks_lr=1e6, classifier_lr=1e6, train_ratio=3.0, schedule="internal")
    with Session(bundle, None, config) as session:
        observe(session, demo_frames)
        session.publish()
        predictions = session.perception.predict_many(demo_frames[:8])
    assert all(np.isfinite(p.confidence) for p in predictions)


def test_an_interrupted_run_saves_and_the_same_one_goes_on(bundle, tmp_path):
    def press_ctrl_c(position, _):
        if position >= 48:
            os.kill(os.getpid(), signal.SIGINT)

    summaries = []
    for on_chunk in (press_ctrl_c, None):
        with Session(bundle, tmp_path / "s", LearningConfig()) as session:
            stream = open_stream("demo", limit_per_class=10)
            summaries.append(adapt(session, stream, key="demo", on_chunk=on_chunk))
    first, second = summaries
    assert (first.interrupted, first.n_taught, first.state.n_taught) == (True, 48, 48)
    assert (second.interrupted, second.n_frames, second.n_known) == (False, 72, 48)
    assert (second.n_taught, second.state.n_taught) == (72, 120)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="above 0"):
        LearningConfig(blocks_lr=0)
    with pytest.raises(ConfigError, match="at least 1"):
        LearningConfig(chunk=0)


def test_what_was_trained_has_moved_only_if_its_weights_are_others(bundle, demo_frames):
    """However many steps were counted: weights can be taken back, and come from elsewhere."""
    config = LearningConfig(schedule="basic", train_ratio=2.0)
    with Session(bundle, None, config) as session:
        exported = session.learner.weights()
        observe(session, demo_frames[:40])
        training, classifier = session.training, session.learned.classifier
        assert training.candidate(40, classifier).has_moved
        moved, rows = session.learner.weights(), session.learner.classifier()
        session.learner.restore(exported, rows)
        assert sum(session.learner.features.cost.steps_per_level[:-1]) > 0
        assert not training.candidate(40, classifier).has_moved
        session.learner.restore(moved, rows)
        assert training.candidate(40, classifier).has_moved
    with Session(bundle, None, config) as session:
        observe(session, demo_frames[:2])
        assert not session.training.candidate(2, session.learned.classifier).has_moved
