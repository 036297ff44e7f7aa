import json

import numpy as np
import pytest
import torch

from benchmarks.cli.splits import Rows
from benchmarks.gaussian_rehearsal import GaussianMemory
from benchmarks.product_codec import FloatCodec
from benchmarks.split import METHODS, Profile, run_method
from benchmarks.split_data import Split
from benchmarks.split_report import summary, write_results
from plr_edge.generative.gaussian_generator import GaussianGenerator

TINY = Profile(hidden=(24, 16), batch=16, iterations=15, lr=3e-3)


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    means = 2 * rng.standard_normal((6, 20))
    y = np.arange(360) % 6
    x = torch.from_numpy((means[y] + rng.standard_normal((360, 20))).astype(np.float32))
    return Split(x[:240], y[:240], x[240:], y[240:], n_experiences=3)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_a_split_and_gives_facts_that_fit_json(name, split):
    row = json.loads(json.dumps(run_method(name, split, 0, TINY)))
    assert 0.0 <= row["accuracy"] <= 1.0
    assert len(row["per_experience"]) == 3
    assert row["wall_s"] > 0
    if name == "naive":
        assert row["per_experience"][0] < 0.5  # it forgets, or there is nothing to compare with
    if name in ("streaming LDA", "joint"):
        assert row["accuracy"] > 0.8


def test_a_split_gives_each_experience_its_own_classes(split):
    ordered = split.ordered(3)
    for e in range(3):
        assert set(ordered.y[ordered.ids(e)]) == {2 * e, 2 * e + 1}


def test_results_are_summed_up_over_seeds_and_drawn(split, tmp_path):
    names = ("class means", "plr layer_idx, gaussian")
    rows = [run_method(name, split, seed, TINY) for seed in range(2) for name in names]
    lines = summary(rows)
    assert [line["seeds"] for line in lines] == [2, 2]
    assert lines[1]["rehearsal ms a step"] < lines[1]["ms a step"]
    write_results(tmp_path, "split", rows)
    assert len((tmp_path / "split.csv").read_text().splitlines()) == 5
    page = (tmp_path / "split.html").read_text()
    assert "layer_idx" in page
    assert 'src="http' not in page and 'href="http' not in page


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(tmp_path):
    file = tmp_path / "rows.json"
    Rows(file, {"profile": {"batch": 1}}).add({"method": "a", "seed": 0})
    assert Rows(file, {"profile": {"batch": 1}}).missing(("a", "b"), 0) == ["b"]
    assert Rows(file, {"profile": {"batch": 1}}).missing(("a", "b"), 1) == ["a", "b"]
    assert Rows(file, {"profile": {"batch": 2}}).missing(("a", "b"), 0) == ["a", "b"]


def test_gaussian_samples_have_the_moments_of_what_was_learned():
    torch.manual_seed(0)
    mixing = torch.randn(8, 8)
    x = torch.randn(4000, 8) @ mixing
    labels = torch.arange(4000) % 2
    x[labels == 1] = 2 * x[labels == 1] - 3
    made = GaussianGenerator(8)
    made.grow(2)
    made.learn_many(x[:2000], labels[:2000])
    made.learn_many(x[2000:], labels[2000:])
    made.freeze()
    for label in (0, 1):
        (samples,) = made.sample_levels(torch.full((4000,), label))
        expected = torch.cov(x[labels == label].T)
        # a covariance from 4,000 samples is off by some 2 % of its scale, a mean by 0.05
        assert (torch.cov(samples.T) - expected).abs().max() < 0.15 * expected.diagonal().max()
        assert (samples.mean(0) - x[labels == label].mean(0)).abs().max() < 0.3


def test_a_class_that_came_after_the_noise_was_made_can_be_rehearsed():
    codec = FloatCodec((4, 1, 1))
    memory = GaussianMemory(codec, n_new=8, n_drawn=32, seed=0)
    rng = np.random.default_rng(0)

    def teach(label, n):
        latents = 5 * label + rng.random((n, 4, 1, 1), np.float32)
        for record in codec.encode(latents):
            memory.add(record, label)

    teach(0, 40)
    memory.sample(8, rng)  # makes the noise
    teach(1, 4)
    slots = memory.sample(32, rng)
    labels = memory.labels[slots]
    assert set(labels.tolist()) == {0, 1}
    drawn = codec.decode(memory.records(slots)).reshape(32, 4)
    assert abs(drawn[labels == 1].mean() - 5.5) < 0.5
