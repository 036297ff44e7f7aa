"""What answers after a restart is what answered before it, and learns on with the same settings."""

import json
from dataclasses import replace

import numpy as np
from learning import observe

from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.session import Session
from plr_edge.store import LEARNED, UNDONE, Store
from plr_edge.stream import open_stream


def answers(perception, frames):
    """Everything that is answered, to the last bit."""
    return [(p.label, p.top, p.similarity) for p in perception.predict_many(frames)]


def test_answers_after_a_restart_are_those_before_it_bit_for_bit(bundle, demo_frames, quick_path):
    test = list(open_stream("demo", split="test"))[:48]
    with Session(bundle, quick_path / "s", LearningConfig(train_ratio=0.5)) as session:
        observe(session, demo_frames)
        session.finish()
        before, version = answers(session.perception, test), session.learned.version
        assert version > 0
    assert answers(Perception.from_state(bundle, quick_path / "s"), test) == before
    for _ in range(2):
        with Session(bundle, quick_path / "s", LearningConfig(train_ratio=0.5)) as session:
            assert (
                answers(session.perception, test) == before and session.learned.version == version
            )


def test_a_generation_that_is_damaged_is_learned_again_without_a_word_of_it_lost(
    bundle, demo_frames, quick_path, caplog
):
    with Session(bundle, quick_path / "s", LearningConfig(train_ratio=0.2)) as session:
        observe(session, demo_frames[:40])
        session.save("test")
        observe(session, demo_frames[40:])
        session.finish()
        n_taught = session.learned.n_taught
    (file,) = (quick_path / "s" / "generations").glob("000002.adaptive.*")
    file.write_bytes(file.read_bytes()[:-1])
    with Session(bundle, quick_path / "s", LearningConfig(train_ratio=0.2)) as session:
        assert "learning again what it held" in caplog.text
        assert session.learned.n_taught == n_taught
        names = [p.top[0][0] for p in session.perception.predict_many(demo_frames)]
        assert np.mean([n == f.label for n, f in zip(names, demo_frames, strict=True)]) > 0.95
        kinds = [(kind, text) for _, kind, text in session.store.events]
    assert ("dropped", "generation 2: damaged") in kinds
    assert any(kind == "recovered" for kind, _ in kinds)


def test_undo_learns_on_with_the_settings_of_the_state(bundle, demo_frames, quick_path):
    config = LearningConfig(memory_bytes=60_000, bits=8, canary=7, label_bytes=10**7, seed=3,
                         schedule="basic", train_ratio=0.3)  # fmt: skip
    with Session(bundle, quick_path / "s", config) as session:
        observe(session, demo_frames)
        session.finish()
        n_held = len(session.training.memory)
    with Store(quick_path / "s") as store:
        assert json.loads(json.dumps(store.facts.get("config")))["memory_bytes"] == 60_000
        store.mark([1], UNDONE, "test")
    with Session.resume(bundle, quick_path / "s", EngineConfig(n_threads=2)) as session:
        settled = replace(config, window=bundle.window(None).side)
        assert (session.config, session.engines) == (settled, EngineConfig(n_threads=2))
        assert session.training.memory.capacity == 60_000 // (
            session.training.memory.record_bytes + 4
        )
        assert n_held - 1 <= len(session.training.memory) <= n_held


def test_labels_whose_latents_were_let_go_are_counted_when_they_cannot_be_learned_again(
    bundle, demo_frames, quick_path, caplog
):
    config = LearningConfig(memory_bytes=30_000, label_bytes=60_000, canary=1)
    with Session(bundle, quick_path / "s", config) as session:
        observe(session, demo_frames)
        session.save("test")
        labels = list(session.store.labels)
        n_held = len(session.store.labels.with_latents(labels))
        assert n_held < len(labels)
        session.store.mark([1], UNDONE, "test")  # the only generation has learned it
        learned = list(session.store.labels.read(status=LEARNED))
        lost = len(learned) - len(session.store.labels.with_latents(learned))
    with Session.resume(bundle, quick_path / "s") as session:
        assert f"{lost} labels cannot be learned again" in caplog.text
        assert session.learned.n_taught == len(labels) - 1 - lost


def test_the_log_says_why_generations_were_published_and_dropped(bundle, demo_frames, quick_path):
    with Session(bundle, quick_path / "s", LearningConfig(train_ratio=0.2)) as session:
        observe(session, demo_frames)
        session.drop("a test")
        session.finish()
        events = [(kind, text) for _, kind, text in session.store.events]
    assert ("dropped", "a test") in events
    published = [text for kind, text in events if kind == "published"]
    assert any(
        "held-out labels lost" in text and text.startswith("version 1") for text in published
    )
    assert published[-1] == f"generation 1, labels to {len(demo_frames)} at the end"
