import json

import numpy as np
import pytest
import torch

from benchmarks import grid_report, summary
from benchmarks.data.encoded import Encoded, Images, Split
from benchmarks.methods import closed_forms, mlp
from benchmarks.methods.codecs import FloatCodec
from benchmarks.methods.generated_methods import read_switch
from benchmarks.methods.registry import METHODS, make_method
from benchmarks.run import Run
from benchmarks.scenarios import Scenario, arrange
from benchmarks.suites import SUITES, cells
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.generative.gaussian_generator import GaussianGenerator
from plr_edge.generative.gaussian_memory import GaussianMemory
from plr_edge.runtime.prediction import Features

TINY = mlp.Profile(hidden=(24, 16), batch=16, iterations=15, lr=3e-3)
SCENARIO = Scenario(dataset="gaussians", encoder="pixels", n_experiences=3)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for profile in ("quick", "wide"):
        monkeypatch.setitem(mlp.PROFILES, profile, TINY)
    monkeypatch.setattr(closed_forms, "_RANDOM_FEATURES", 200)


@pytest.fixture(scope="module")
def encoded():
    rng = np.random.default_rng(0)
    means = 2 * rng.standard_normal((6, 20))
    y = np.arange(360) % 6
    x = (means[y] + rng.standard_normal((360, 20))).astype(np.float32)

    def split(rows):
        seen = Features(x[rows], np.zeros((len(y[rows]), 0), np.float32), x[rows])
        return Split(seen, y[rows], np.arange(len(y[rows])), Images(lambda: ()))

    return Encoded(split(slice(240)), split(slice(240, 360)), list("abcdef"), 0.001)


def run(name, encoded, seed=0):
    benchmark = arrange(SCENARIO, encoded, seed)
    method = make_method(name, benchmark, LearningConfig(seed=seed), {})
    facts = json.loads(json.dumps(Run(method, benchmark).run()))
    about = {"scenario": SCENARIO.name, "method": name, "seed": seed, "n_frames": 240}
    return {**about, **facts}


@pytest.mark.parametrize("name", SUITES["generated"].methods)
def test_every_method_runs_and_gives_facts_that_fit_json(name, encoded):
    row = run(name, encoded)
    assert 0.0 <= row["variants"][""] <= 1.0
    assert len(row["curve"]) == 3
    assert row["learn_s"] > 0
    if name == "mlp, naive":
        assert row["forgetting"] > 0.5  # it forgets, or there is nothing to compare with
    if name in ("streaming LDA", "mlp, joint"):
        assert row["variants"][""] > 0.8


def test_results_are_summed_up_over_seeds_and_drawn(encoded, tmp_path):
    names = ("nearest class mean", "plr layer_idx, gaussian")
    rows = [run(name, encoded, seed) for seed in range(2) for name in names]
    lines = {line["method"]: line for line in summary.summary(rows, SCENARIO.name)}
    assert {tuple(line["seeds"]) for line in lines.values()} == {(0, 1)}
    ours = lines["plr layer_idx, gaussian"]
    assert ours["of it rehearsal"] < ours["step ms"]
    pytest.importorskip("matplotlib")
    grid_report.write_grid(tmp_path, "generated", rows)
    assert len((tmp_path / "generated.csv").read_text().splitlines()) == 5
    page = (tmp_path / "generated.html").read_text()
    assert "layer_idx" in page
    assert 'src="http' not in page and 'href="http' not in page


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


@pytest.mark.parametrize("name", [*SUITES["switches"].methods, *SUITES["wide"].methods])
def test_every_switch_and_every_wide_row_runs(name, encoded):
    if METHODS[name].generated:
        row = run(name, encoded)
        assert 0.0 <= row["variants"][""] <= 1.0
        assert row["macs"] > 0


@pytest.mark.parametrize(
    ("text", "switch"),
    [
        ("new_share=0.5", ("new_share", 0.5)),
        ("decayed=true", ("decayed", True)),
        ("hidden=100,50", ("hidden", (100, 50))),
        ("schedule=layer_idx", ("schedule", "layer_idx")),
        ("modes=4", ("modes", 4)),
        ("iterations=7", ("iterations", 7)),
    ],
)
def test_each_switch_is_an_option(text, switch):
    assert read_switch(text) == switch


@pytest.mark.parametrize(
    "text", ["foo=1", "modes", "modes=", "modes=many", "decayed=yes", "seed=3"]
)
def test_a_switch_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--set"):
        read_switch(text)


def test_a_setting_changes_what_is_run(encoded):
    benchmark = arrange(SCENARIO, encoded, 0)
    plain, changed = (
        make_method("internal, gaussian", benchmark, LearningConfig(), tuned)
        for tuned in ({}, {"new_share": 0.5, "iterations": 3})
    )
    assert plain.learner.config.new_share == 0.0
    assert changed.learner.config.new_share == 0.5
    for method in (plain, changed):
        Run(method, benchmark).run()
    assert (plain.learner.n_steps, changed.learner.n_steps) == (45, 9)


def test_the_wide_rows_of_one_seed_come_last():
    suite = SUITES["wide"]
    found = cells(suite, suite.full, (), quick=False, seeds=None)
    once = [cell.method in suite.one_seed for cell in found]
    assert once == sorted(once)
    assert all(cell.seed == 0 for cell in found if cell.method in suite.one_seed)
    assert {cell.seed for cell in found} == {0, 1, 2}


def test_curves_have_intervals_by_students_t_and_baselines_have_them_too(encoded):
    rows = [run(name, encoded, seed) for seed in range(3)
            for name in ("nearest class mean", "plr frozen, gaussian")]  # fmt: skip
    curves, intervals = grid_report._curves(rows, SCENARIO.name)
    assert set(curves) == set(intervals) == {"nearest class mean", "plr frozen, gaussian"}
    last = [row["curve"][-1][1] for row in rows if row["method"] == "nearest class mean"]
    # 4.303: the 97.5 % quantile of t with two degrees of freedom
    expected = 4.303 * np.std(last, ddof=1) / np.sqrt(3)
    assert intervals["nearest class mean"][-1] == pytest.approx(expected, rel=1e-3)
