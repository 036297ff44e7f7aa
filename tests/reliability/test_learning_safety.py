"""What is not finite, or worse, is not published; mistakes can be undone."""

import numpy as np
import pytest
import torch
from learning import observe, share_right

from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.runtime.publish_gate import allowed_losses, decide, false_alarm
from plr_edge.runtime.session import Session
from plr_edge.store import UNDONE, Store
from plr_edge.stream.base import Frame

CONFIG = LearningConfig(train_ratio=1.0)


# the gate


def test_odds_of_a_false_alarm_are_those_of_a_simulation():
    rng = np.random.default_rng(0)
    draws = rng.choice([1, 0, -1], p=[0.03, 0.94, 0.03], size=(20_000, 200)).sum(1)
    for allowed in (2, 6, 10):
        simulated = (draws > allowed).mean()
        assert abs(false_alarm(200, allowed) - simulated) < 0.012  # 4 sigma of 20,000 draws


@pytest.mark.parametrize("n", [1, 10, 50, 100, 400, 1000])
def test_a_harmless_update_is_seldom_refused(n):
    allowed = allowed_losses(n)
    assert false_alarm(n, allowed) <= 0.01
    assert allowed >= 0.03 * n - 1


def test_a_loss_of_a_tenth_is_refused_overall_and_a_lost_class_even_where_others_gain():
    truth = np.repeat(np.arange(10), 40)
    worse = truth.copy()
    worse[::10] = -1
    assert not decide(truth, truth, worse).passed
    assert decide(truth, truth, truth).passed
    before = truth.copy()
    before[80:120] = -1  # class 2 was never right; now it is, and class 5 is lost
    after = truth.copy()
    after[200:240] = 2
    verdict = decide(truth, before, after)
    assert not verdict.passed and "class 5" in verdict.reason


def test_a_generation_that_the_canary_refuses_does_not_answer(bundle, demo_frames):
    with Session(bundle, None, LearningConfig(canary=200, train_ratio=0.2)) as session:
        for _ in range(3):
            observe(session, demo_frames)
        session.publish()
        assert session.learned.verdict.passed and session.learned.verdict.n > 5
        version, engine = session.learned.version, session.perception.engine
        good = share_right(session.perception, demo_frames)
        with torch.no_grad():
            for parameter in session.learner.blocks.parameters():
                parameter.normal_()
            session.learner.cosine.weight.normal_()
        session.learned.classifier.ridge._weights[:] = 0  # so that nothing else answers rightly
        labels = session.training.memory.labels
        labels[:] = labels[::-1].copy()
        session.publish()
        assert not session.learned.verdict.passed
        assert (session.learned.version, session.perception.engine) == (version, engine)
        for name, array in session.learner.weights().items():
            np.testing.assert_array_equal(array, session.learned.weights[name])
        assert good > 0.9


# values that are not finite


def poison_frame(session, seen, rng):
    image = np.full((9, 9, 3), rng.choice([np.nan, np.inf]), np.float32)
    with pytest.raises(StreamError, match="uint8"):
        session.observe_many([Frame(image, "mug", 0, "x", 0)])


def poison_latent(session, seen, rng):
    seen.latents[rng.integers(len(seen.latents))].flat[0] = rng.choice([np.nan, np.inf, -np.inf])


def poison_taps(session, seen, rng):
    seen.taps[rng.integers(len(seen.taps))][rng.integers(seen.taps.shape[1])] = np.nan


def poison_feature(session, seen, rng):
    seen.features[0] = np.inf


def poison_weight(session, seen, rng):
    parameters = list(session.learner.blocks.parameters())
    with torch.no_grad():
        parameters[rng.integers(len(parameters))].view(-1)[0] = float(rng.choice([np.nan, np.inf]))


def poison_row(session, seen, rng):
    if session.learner.cosine.n_classes:
        with torch.no_grad():
            session.learner.cosine.weight[0, 0] = torch.nan


def poison_optimizer(session, seen, rng):
    for state in session.learner._optimizer.state.values():
        if state.get("momentum_buffer") is not None:
            state["momentum_buffer"].view(-1)[0] = torch.inf


def poison_velocity(session, seen, rng):
    session.learner.cosine._velocity[:1] = torch.nan


def poison_gradient(session, seen, rng):
    last = list(session.learner.blocks.parameters())[-1]
    handle = last.register_hook(lambda gradient: gradient * torch.nan)
    session.learner.step()
    handle.remove()


def poison_loss(session, seen, rng):
    """Let one step's loss be no number, though everything before it is."""
    with pytest.MonkeyPatch.context() as patch:
        real = torch.log_softmax
        patch.setattr(torch, "log_softmax", lambda *a, **k: real(*a, **k) + torch.nan)
        session.learner.step()


def poison_rate(session, seen, rng):
    """A learning rate under which weights explode, still finite at first."""
    for group in session.learner._optimizer.param_groups:
        group["lr"], before = 1e12, group["lr"]
        session.learner.step()
        group["lr"] = before


POISONS = [poison_frame, poison_latent, poison_taps, poison_feature, poison_weight, poison_row,
           poison_optimizer, poison_velocity, poison_gradient, poison_loss,
           poison_rate]  # fmt: skip


def test_a_thousand_values_that_are_not_finite_publish_nothing(bundle, demo_frames, quick_path):
    rng = np.random.default_rng(0)
    config = LearningConfig(train_ratio=0.05, memory_bytes=100_000)
    with Session(bundle, quick_path / "s", config) as session:
        observe(session, demo_frames)
        session.publish()
        seen = session.perception.perceive(demo_frames[:2])
        for i in range(1000):
            copy = seen.take([0, 1])
            POISONS[i % len(POISONS)](session, copy, rng)
            session.observe_features(demo_frames[:2], copy)
            if i % 7 == 0:
                session.publish()
            arrays = {**session.learned.weights, **session.learned.classifier.to_arrays()}
            assert all(np.isfinite(a).all() for a in arrays.values()), POISONS[i % len(POISONS)]
        session.save("test")
        assert share_right(session.perception, demo_frames) > 0.9
    with Store(quick_path / "s") as store:
        assert store.generations.damage() == {}
        assert {kind for _, kind, _ in store.events} >= {"dropped", "not finite"}


# mistakes


def test_undo_of_a_class_makes_it_unknown_again(bundle, demo_frames, tmp_path):
    name = demo_frames[-1].label
    with Session(bundle, tmp_path / "s", CONFIG) as session:
        observe(session, demo_frames)
        session.finish()
    with Store(tmp_path / "s") as store:
        seqs = [x.seq for x in store.labels if x.name == name]
        store.mark(seqs, UNDONE, "test")
    with Session.resume(bundle, tmp_path / "s") as session:
        session.finish()
        assert name not in session.learned.classes and len(session.learned.classes) == 5
        others = [f for f in demo_frames if f.label != name]
        assert share_right(session.perception, others) > 0.95


def test_labels_taught_after_the_last_generation_are_learned_again_after_a_crash(
    bundle, demo_frames, tmp_path
):
    session = Session(bundle, tmp_path / "s", CONFIG)
    observe(session, demo_frames[:40])
    session.save("test")
    observe(session, demo_frames[40:])
    taught, history = session.learned.n_taught, len(session.learned.history.labels)
    session.close()  # without saving, as a crash would
    with Session(bundle, tmp_path / "s", CONFIG) as session:
        assert session.learned.n_taught == taught
        assert len(session.learned.history.labels) == history == len(demo_frames)
        assert share_right(session.perception, demo_frames) > 0.95


def test_a_batch_that_the_disk_refuses_changes_nothing(bundle, demo_frames, tmp_path, monkeypatch):
    from plr_edge.errors import StateError

    with Session(bundle, tmp_path / "s", CONFIG) as session:
        observe(session, demo_frames[:24])
        classes, sums = list(session.learned.classes), session.learned.classifier.means.sums.copy()
        with monkeypatch.context() as patch:

            def refuse(*_, **__):
                raise StateError("no space")

            patch.setattr(session.store, "teach", refuse)
            with pytest.raises(StateError):
                session.observe_many(demo_frames[24:40])
        assert session.learned.classes == classes
        np.testing.assert_array_equal(session.learned.classifier.means.sums, sums)
        assert session.learned.n_taught == 24 == session.store.last_seq
        observe(session, demo_frames[24:])
        assert session.store.last_seq == len(demo_frames)
