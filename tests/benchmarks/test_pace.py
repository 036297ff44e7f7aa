import numpy as np
import pytest

from benchmarks import pace
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.stream import open_stream


def test_both_sides_learn_the_same_frames_end_to_end(bundle_path, tmp_path, monkeypatch):
    def demo(path, split, limit_per_class):
        return open_stream("demo", split=split, limit_per_class=min(limit_per_class, 4))

    monkeypatch.setattr(pace, "open_stream", demo)
    (tmp_path / "cifar100").mkdir()
    learned: dict[str, list[int]] = {}
    for side in (pace._Ours, pace._Peer):
        learn = side.learn

        def counted(self, frames, learn=learn):
            learned.setdefault(self.name, []).extend(frame.index for frame in frames)
            learn(self, frames)

        monkeypatch.setattr(side, "learn", counted)
    said = []
    facts = pace.compare_pace(
        open_bundle(bundle_path), tmp_path, tmp_path, LearningConfig(), per_class=4, epochs=2,
        say=said.append,
    )  # fmt: skip
    ours, peer = facts["rows"]
    assert len(said) == len(facts["ratios"]) == 10
    assert facts["ratio"] == pytest.approx(np.median(facts["ratios"]))
    assert sorted(learned[ours["name"]]) == sorted(learned[peer["name"]])
    assert len(learned[ours["name"]]) == 48
    for row in (ours, peer):
        assert 0 < row["frozen_ms_per_frame"] < row["ms_per_frame"]
        assert row["frames_per_s"] * sum(row["seconds"]) == pytest.approx(48)
    assert ours["accuracy"] > 0.5 and peer["accuracy"] > 2 / 12


def test_the_frozen_part_of_the_peer_is_that_of_the_bundle(bundle_path, demo_frames):
    bundle = open_bundle(bundle_path)
    peer = pace._Peer(bundle, sorted({frame.label for frame in demo_frames}), LearningConfig(), {})
    expected = pace._seen(bundle, demo_frames[:8], LearningConfig()).latents
    got = []
    peer._contender.learn = lambda part: got.append(part.seen.latents)
    peer.learn(demo_frames[:8])
    np.testing.assert_allclose(got[0], expected, atol=1e-3)


def test_without_the_images_it_says_where_they_should_be(bundle_path, tmp_path):
    with pytest.raises(StreamError, match="--data"):
        pace.compare_pace(
            open_bundle(bundle_path), tmp_path, tmp_path, LearningConfig(), per_class=1, epochs=1,
            say=print,
        )  # fmt: skip
