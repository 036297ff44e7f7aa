import itertools
import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks import compare, compare_report, compare_summary
from benchmarks import contenders as contenders_module
from benchmarks.closed_forms import NaiveBayes
from benchmarks.contenders import contenders
from benchmarks.course import Run
from benchmarks.datasets import find_dataset
from benchmarks.feature_methods import FEATURE_METHODS
from benchmarks.product_codec import FloatCodec, ProductCodec
from benchmarks.scenarios import ORDERS, Scenario, choose, make_task
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError


def gaussian(n_classes=8, n=30, width=16, seed=0):
    rng = np.random.default_rng(seed)
    means = 1.5 * rng.standard_normal((n_classes, width))
    y = np.repeat(np.arange(n_classes), n)
    x = (means[y] + rng.standard_normal((len(y), width))).astype(np.float32)
    order = rng.permutation(len(y))
    return x[order], y[order]


@pytest.mark.parametrize("name", FEATURE_METHODS)
def test_every_feature_method_tells_gaussians_apart_and_counts_what_it_keeps(name):
    x, y = gaussian()
    method = FEATURE_METHODS[name](x.shape[1])
    for start in range(0, 160, 16):
        method.learn_many(x[start : start + 16], y[start : start + 16])
    right = (method.scores_many(x[160:]).argmax(1) == y[160:]).mean()
    assert right > (0.5 if name in ("perceptron", "naive linear classifier") else 0.8)
    assert method.n_bytes > 0


def test_lda_and_nearest_mean_answer_as_scikit_learn_does():
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    neighbours = pytest.importorskip("sklearn.neighbors")
    x, y = gaussian(width=8)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for name, other in (
        (
            "streaming LDA",
            analysis.LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(8, 1 / 8)),
        ),
        ("nearest class mean", neighbours.NearestCentroid()),
    ):
        ours = FEATURE_METHODS[name](8)
        ours.learn_many(x[:160], y[:160])
        theirs = other.fit(x[:160], y[:160]).predict(x[160:])
        assert (ours.scores_many(x[160:]).argmax(1) == theirs).mean() > 0.93


def test_ridge_from_sums_is_ridge_over_standardised_values():
    x, y = gaussian(width=8)
    x[:, 0] = 100 + 3 * x[:, 0]  # far from zero, and wider
    ours = FEATURE_METHODS["ridge"](8)
    for start in range(0, len(y), 16):
        ours.learn_many(x[start : start + 16], y[start : start + 16])
    scores = ours.scores_many(x)
    z, targets = (x - x.mean(0)) / x.std(0), np.eye(8)[y]
    expected = [
        z @ np.linalg.solve(z.T @ z + 8 * share * np.eye(8), z.T @ targets) + targets.mean(0)
        for share in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    ]
    assert min(abs(scores - one).max() for one in expected) < 1e-3


def test_naive_bayes_scores_are_log_likelihoods():
    x, y = gaussian(n_classes=3, width=4)
    ours = NaiveBayes(4)
    ours.learn_many(x, y)
    floor = 0.1 * x.var(0).mean()
    expected = np.stack(
        [
            -0.5 * (((x - x[y == c].mean(0)) ** 2 / (x[y == c].var(0) + floor)).sum(1)
                    + np.log(x[y == c].var(0) + floor).sum())
            for c in range(3)
        ], 1,
    )  # fmt: skip
    np.testing.assert_allclose(ours.scores_many(x), expected, rtol=1e-4, atol=1e-3)


def test_naive_bayes_answers_after_a_single_sample():
    x, y = gaussian(n_classes=3, width=4)
    ours = NaiveBayes(4)
    ours.learn_many(x[:1], y[:1])
    with np.errstate(all="raise"):
        assert (ours.scores_many(x).argmax(1) == y[0]).all()


def test_codecs_give_back_what_they_can():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((50, 10, 2, 2)).astype(np.float32)
    floats = FloatCodec((10, 2, 2))
    np.testing.assert_array_equal(floats.decode(floats.encode(latents)), latents)
    product = ProductCodec(latents[:, :, :1, :1])  # no more rows than codes: exact
    one = latents[:, :, :1, :1]
    assert product.encode(one).shape == (50, product.record_bytes)
    assert abs(product.decode(product.encode(one)) - one).mean() < 0.35 * abs(one).mean()


@pytest.mark.parametrize("order", ORDERS)
def test_orders_teach_each_chosen_frame_once(order, made):
    _, bundles, parts, _ = made
    scenario = Scenario(dataset="films", order=order, n_experiences=4, per_class=8)
    task = make_task(scenario, bundles, parts, 3)
    rows = task.train.rows
    assert len(set(rows.tolist())) == len(rows) <= 8 * len(task.classes)
    assert len(set(task.train.labels.tolist())) == len(task.classes)
    np.testing.assert_array_equal(task.train.labels, parts[0].labels[rows])
    if order == "classes":
        groups = np.split(task.train.labels, task.starts[1:])
        assert not any(set(a) & set(b) for a, b in itertools.pairwise(groups))
    again = make_task(scenario, bundles, parts, 3)
    np.testing.assert_array_equal(again.train.rows, rows)


def test_noise_puts_wrong_labels_on_its_share_of_frames(made):
    _, bundles, parts, _ = made
    scenario = Scenario(dataset="films", order="iid", noise=0.25)
    task = make_task(scenario, bundles, parts, 0)
    wrong = task.train.labels != parts[0].labels[task.train.rows]
    n = len(wrong)
    # 6 sigma of a binomial(n, 0.25)
    assert abs(wrong.sum() - 0.25 * n) < 6 * (n * 0.1875) ** 0.5
    assert wrong.any()


def test_wrong_labels_do_not_make_a_class_met(made):
    _, bundles, parts, _ = made
    noisy = Scenario(dataset="films", n_experiences=4, per_class=8, noise=0.5)
    rows = [
        Run(contenders()["nearest class mean"](task, LearningConfig()), task).run()
        for task in (make_task(one, bundles, parts, 0) for one in (noisy, replace(noisy, noise=0)))
    ]
    assert rows[0]["forgetting"] is not None
    assert [frames for frames, _ in rows[0]["curve"]] == [frames for frames, _ in rows[1]["curve"]]
    assert rows[0]["curve"][0][1] > 0.5  # of the three classes that were met


@pytest.mark.parametrize("name", contenders())
def test_every_contender_takes_its_course(name, made):
    _, bundles, parts, _ = made
    scenario = Scenario(dataset="films", n_experiences=3, per_class=6)
    task = make_task(scenario, bundles, parts, 0)
    config = LearningConfig(memory_bytes=300_000, rehearsed_per_step=16)
    contender = contenders()[name](task, config)
    facts = json.loads(json.dumps(Run(contender, task).run()))
    assert 0 <= facts["variants"][""] <= 1
    assert facts["learn_s"] > 0
    assert facts["memory_bytes"] >= 0
    if name in ("ridge", "plr", "fast classifier", "joint training"):
        assert facts["variants"][""] > 0.4  # chance is 0.08


def test_a_class_by_class_course_looks_after_1_5_and_20_frames(made):
    _, bundles, parts, _ = made
    scenario = Scenario(dataset="films", n_experiences=0, per_class=9)
    task = make_task(scenario, bundles, parts, 0)
    facts = Run(contenders()["nearest class mean"](task, LearningConfig()), task).run()
    assert facts["after_5"] >= facts["after_1"] > 0.3
    assert "after_20" not in facts  # no class has so many


class Late(contenders_module.Method):
    """Learns nothing until the end of an experience."""

    def __init__(self):
        self.waiting = 0

    @property
    def n_waiting(self):
        return self.waiting

    def learn(self, part):
        self.waiting += len(part.labels)

    def new_experience(self):
        time.sleep(0.02)
        self.waiting = 0

    def answers(self, part):
        return {"": np.zeros(len(part.labels), int)}

    def costs(self):
        return {}


def test_seconds_until_learned_include_waiting_for_the_experience_to_end(made):
    _, bundles, parts, _ = made
    scenario = Scenario(dataset="films", n_experiences=2, per_class=8)
    task = replace(make_task(scenario, bundles, parts, 0), frozen_s=0.01)
    facts = Run(Late(), task).run()
    n = len(task.train.labels) // 2  # the first chunk of 16 waits for n frames, the last for 16
    assert facts["learned_after_s"] == pytest.approx(0.02 + 0.01 * (n + 16) / 2, rel=0.2)
    at_once = Run(contenders()["nearest class mean"](task, LearningConfig()), task).run()
    assert 0.01 < at_once["learned_after_s"] < 16 * 0.01 + 0.1


@pytest.mark.parametrize("accuracies, best", [
    ({"0.033": 0.2, "0.1": 0.5, "0.3": 0.4}, 0.1),
    ({"0.033": 0.2, "0.1": 0.5, "0.3": 0.6, "0.9": 0.4}, 0.3),
    ({"0.011": 0.7, "0.033": 0.6, "0.1": 0.5, "0.3": 0.5}, 0.011),
])  # fmt: skip
def test_tuning_goes_on_beyond_an_edge_and_is_remembered(
    tmp_path, monkeypatch, accuracies, best
):  # fmt: skip
    tried = []

    def accuracy(name, value, **_):
        tried.append(value)
        return name, value, accuracies[value]

    monkeypatch.setattr(compare, "make_one", lambda *_: None)
    monkeypatch.setattr(compare, "tried_accuracy", accuracy)
    monkeypatch.setattr(compare, "TUNABLE", {"naive Bayes": ("floor", 0.1)})
    monkeypatch.setattr(
        "benchmarks.grid.in_processes",
        lambda calls, *_: (one(*given, **named) for one, given, named in calls),
    )
    where = {
        "data": tmp_path,
        "output": tmp_path,
        "config": LearningConfig(),
        "say": print,
        "jobs": 1,
    }
    assert compare.tune(**where) == {"naive Bayes": {"floor": best}}
    assert sorted(tried) == sorted(accuracies)
    kept = json.loads((tmp_path / "tuning.json").read_text())
    kept["naive Bayes"].pop("0.1")  # as if it had been interrupted
    (tmp_path / "tuning.json").write_text(json.dumps(kept))
    assert compare.read_tuned(tmp_path) == {}
    assert compare.tune(**where) == {"naive Bayes": {"floor": best}}
    assert tried[len(accuracies) :] == ["0.1"]


def test_what_is_tried_in_tuning_is_the_accuracy_of_the_method_with_that_setting(
    tmp_path, made, monkeypatch
):  # fmt: skip
    _, bundles, parts, _ = made
    task = make_task(Scenario(dataset="films", per_class=4), bundles, parts, compare.TUNING_SEED)
    monkeypatch.setattr(compare, "make_one", lambda *_: task)
    where = {"data": tmp_path, "output": tmp_path, "config": LearningConfig()}
    method = NaiveBayes(task.train.seen.features.shape[1], floor=30.0)
    method.learn_many(task.train.seen.features, task.train.labels)
    right = method.scores_many(task.test.seen.features).argmax(1) == task.test.labels
    _, value, accuracy = compare.tried_accuracy("naive Bayes", "30", **where)
    assert value == "30" and accuracy == pytest.approx(right.mean())
    assert accuracy != compare.tried_accuracy("naive Bayes", "0.1", **where)[2]


def test_a_folder_is_a_data_set_of_which_every_fourth_frame_is_held_out(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("mug", "drill"):
        (tmp_path / name).mkdir()
        for i in range(8):
            image = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
            image.save(tmp_path / name / f"{i}.png")
    folder = find_dataset(str(tmp_path))
    taught, held = (list(folder.frames(tmp_path, part)) for part in ("train", "test"))
    assert (len(taught), len(held)) == (12, 4)
    assert {frame.source for frame in taught}.isdisjoint(frame.source for frame in held)
    before = folder.version(tmp_path)
    (tmp_path / "mug" / "0.png").unlink()
    assert folder.version(tmp_path) != before
    with pytest.raises(ConfigError, match="or a folder of class/image"):
        find_dataset("no-such-thing")


def test_options_of_a_stream_give_all_combinations():
    listed = choose(False)
    assert {scenario.order for scenario in listed} == {"classes", "blocks", "iid", "long tail"}
    assert {s.noise for s in listed} == {0.0, 0.1, 0.2}
    assert {1, 5, 20, None} <= {s.per_class for s in listed}
    some = choose(False, ["mnist"], ["iid", "blocks"], [1, None], 5, [0.0, 0.2])
    assert len(set(some)) == 8 and {s.n_experiences for s in some} == {5}
    with pytest.raises(ConfigError, match="long tail"):
        choose(False, orders=["sorted"])


def test_tables_replace_only_what_stands_between_their_marks(tmp_path):
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- compare -->\nold\n<!-- /compare -->\nafter\n")
    compare_report.put_between_marks(file, "compare", "new\n")
    assert file.read_text() == "before\n<!-- compare -->\nnew\n<!-- /compare -->\nafter\n"
    with pytest.raises(ConfigError, match="peers"):
        compare_report.put_between_marks(file, "peers", "x")


def row(method, seed, accuracy, macs):
    return {"scenario": "s", "method": method, "seed": seed, "n_frames": 10, "macs": 10 * macs,
            "variants": {"": accuracy}, "curve": [[1, accuracy]],
            "learn_ms_per_frame": 1.0}  # fmt: skip


def test_the_report_marks_the_best_its_ties_and_the_front():
    rows = [row("ridge", s, 0.50 + 0.01 * s, 1e6) for s in range(3)]
    rows += [row("plr", s, 0.60 + 0.01 * s, 9e6) for s in range(3)]
    rows += [row("internal replay", s, 0.599 + 0.01 * s + 0.002 * (s == 1), 20e6) for s in range(3)]
    rows += [row("joint training", s, 0.7, 99e6) for s in range(3)]
    lines = {line["method"]: line for line in compare_summary.summary(rows, "s")}
    assert lines["plr"]["best"] and not lines["ridge"]["best"]
    assert not lines["joint training"]["best"]
    assert lines["internal replay"]["tied"]  # the difference is within the paired interval
    assert lines["ridge"]["front"] and lines["plr"]["front"]
    assert not lines["internal replay"]["front"]
    table = compare_report.markdown(rows)
    assert "| * plr | **61.0 ± 2.5** |" in table and "| internal replay | 61.0 ± 2.5 = |" in table
    assert "`plr` minus `internal replay`, the best that is not ours:" in table
    assert table.splitlines()[2] == (
        "| s | 3 | plr | 61.0 | internal replay | 61.0 | +0.0 ± 0.3 | 70.0 | plr |"
    )
    assert compare_report.to_csv(rows).count("\n") == 13


def test_pareto_keeps_what_nothing_beats():
    assert compare_summary.pareto([(1, 5), (2, 5), (2, 7), (3, 6)]) == [True, False, True, False]


def test_images_of_a_part_are_those_of_its_rows(made):
    dataset, _, parts, folder = made
    frames = list(dataset.frames(folder, "train"))
    got = parts[0].take(np.array([5, 2])).images.get(np.array([5, 2]))
    np.testing.assert_array_equal(got[0], frames[5].image)
    np.testing.assert_array_equal(got[1], frames[2].image)


def test_a_grid_keeps_its_rows_and_goes_on(tmp_path, made, monkeypatch):
    pytest.importorskip("joblib")
    from benchmarks.grid import in_processes

    assert sorted(in_processes([(pow, (i, 2), {}) for i in range(4)], 1)) == [0, 1, 4, 9]
    config = LearningConfig()
    compare.write_rows(tmp_path, config, [row("ridge", 0, 0.5, 1.0)])
    assert len(compare.read_rows(tmp_path, config)) == 1
    assert compare.read_rows(tmp_path, LearningConfig(bits=8)) == []


def test_a_grid_runs_what_is_missing_and_what_another_setting_was_chosen_for(
    tmp_path, monkeypatch
):  # fmt: skip
    ran = []

    def run_one(name, scenario, seed, *, tuned, **_):
        ran.append((name, seed))
        return {**row(name, seed, 0.5, 1.0), "scenario": scenario.name, "tuned": tuned}

    monkeypatch.setattr(compare, "make_one", lambda *_: None)
    monkeypatch.setattr(compare, "run_one", run_one)
    monkeypatch.setattr(
        "benchmarks.grid.in_processes",
        lambda calls, *_: (one(*given, **named) for one, given, named in calls),
    )
    scenario, methods = Scenario(dataset="mnist"), ("ridge", "naive Bayes")
    where = {"data": tmp_path, "output": tmp_path, "config": LearningConfig(), "jobs": 1,
             "say": lambda _: None}  # fmt: skip
    compare.run_grid((scenario,), methods, range(1), **where)
    rows = compare.run_grid((scenario,), methods, range(2), **where)
    assert ran == [("ridge", 0), ("naive Bayes", 0), ("ridge", 1), ("naive Bayes", 1)]
    assert len(rows) == 4
    tried = {"0.033": 0.2, "0.1": 0.5, "0.3": 0.4}
    (tmp_path / "tuning.json").write_text(json.dumps({"naive Bayes": tried}))
    rows = compare.run_grid((scenario,), methods, range(2), **where)
    assert ran[4:] == [("naive Bayes", 0), ("naive Bayes", 1)]
    assert [one["tuned"] for one in rows if one["method"] == "naive Bayes"] == [{"floor": 0.1}] * 2
    assert len(compare.read_rows(tmp_path, LearningConfig())) == len(rows) == 4
