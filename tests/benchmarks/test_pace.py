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

    monkeypatch.setattr(pace, "open_pack", demo)
    (tmp_path / "cifar100").mkdir()
    learned: dict[str, list[int]] = {}

    def counted(make):
        def made(*arguments):
            side = make(*arguments)
            learn = side.learn

            def learn_and_count(frames):
                learned.setdefault(side.name, []).extend(frame.index for frame in frames)
                learn(frames)

            side.learn = learn_and_count
            return side

        return made

    for name in ("ours", "eager_ar1"):
        monkeypatch.setattr(pace, name, counted(getattr(pace, name)))
    said = []
    facts = pace.compare_pace(
        open_bundle(bundle_path), tmp_path, LearningConfig(), per_class=4, settings={"epochs": 2},
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
    assert "times faster, median of the experiences" in pace.markdown(facts)


def test_the_frozen_part_of_the_peer_is_that_of_the_bundle(
    bundle_path, demo_frames, monkeypatch
):  # fmt: skip
    bundle, got = open_bundle(bundle_path), []
    monkeypatch.setattr(pace.Ar1, "learn", lambda _, split: got.append(split.seen.latents))
    classes = sorted({frame.label for frame in demo_frames})
    pace.eager_ar1(bundle, classes, LearningConfig(), {}).learn(demo_frames[:8])
    expected = pace.encoded(bundle, demo_frames[:8], LearningConfig()).latents
    np.testing.assert_allclose(got[0], expected, atol=1e-3)


def test_without_the_images_it_says_where_they_should_be(bundle_path, tmp_path):
    bundle = open_bundle(bundle_path)
    with pytest.raises(StreamError, match="--data"):
        pace.compare_pace(bundle, tmp_path, LearningConfig(), per_class=1, settings={}, say=print)
