"""Results of the Python API: typed, and readable under their old names for one release."""

import json
from pathlib import Path

import pytest
from tiny_network import frames

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.runtime.adapt import AdaptSummary, adapt
from plr_edge.runtime.session import Session
from plr_edge.stream.base import Entry, Stream

NAMES = [
    "n_frames", "n_taught", "n_quarantined", "n_classes", "prequential_accuracy", "seconds",
    "frames_per_s", "learn_share", "frozen_s", "adaptive_s", "version", "memory", "cache", "macs",
    "steps_per_level", "skipped", "interrupted", "n_known", "n_relabelled", "n_unlabelled", "state",
]  # fmt: skip


@pytest.fixture
def session():
    bundle = open_bundle(Path(__file__).parent / "golden" / "bundle")
    with Session(bundle, None, LearningConfig(), EngineConfig()) as opened:
        yield opened


def stream_of(shown):
    entries = [Entry(lambda i=f.image: i, f.label, f.stamp_ns, f.source) for f in shown]
    return Stream(entries, n_frames=len(entries))


def test_a_summary_has_attributes_and_fits_json_under_the_names_of_before(session):
    progress = []
    summary = adapt(session, stream_of(frames(20)), on_chunk=lambda _, s: progress.append(s))
    assert isinstance(summary, AdaptSummary)
    assert [s.n_frames for s in progress] == [16, 20]
    assert (summary.n_frames, summary.n_taught, summary.n_classes) == (20, 20, 4)
    assert not summary.interrupted and summary.skipped == ()
    facts = json.loads(json.dumps(summary.to_dict()))
    assert list(facts) == NAMES
    assert facts["memory"] == {"n": summary.n_latents, "bytes": summary.latent_bytes}
    assert list(facts["cache"]) == ["mean_age_steps", "max_age_steps"]
    assert list(facts["macs"]) == ["train", "refresh"]
    assert list(facts["state"]) == [
        "n_taught",
        "n_quarantined",
        "n_classes",
        "prequential_accuracy",
    ]


def test_a_summary_can_still_be_read_like_a_table_and_warns(session):
    summary = adapt(session, stream_of(frames(8)))
    with pytest.warns(DeprecationWarning, match="use its attributes") as caught:
        assert summary["memory"] == {"n": summary.n_latents, "bytes": summary.latent_bytes}
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "name",
    ["classes", "classifier", "history", "version", "n_taught", "n_quarantined", "verdict"],
)
def test_what_a_session_has_learned_can_still_be_read_from_it_and_warns(session, name):
    session.observe_many(frames(8))
    with pytest.warns(DeprecationWarning, match=f"use Session.learned.{name}") as caught:
        assert getattr(session, name) is getattr(session.learned, name)
    assert caught[0].filename == __file__


def test_what_a_session_never_had_is_still_an_error(session):
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        session.nothing  # noqa: B018
