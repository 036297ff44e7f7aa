import itertools
import json
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import grid_report, pages, runner, suites, summary, tuning
from benchmarks.cli import command
from benchmarks.data.datasets import find_dataset
from benchmarks.methods.base import Method
from benchmarks.methods.registry import METHODS, make_method
from benchmarks.methods.scikit import NaiveBayes
from benchmarks.results import Rows, in_processes, read_results
from benchmarks.run import Run
from benchmarks.runner import Cell, Settings
from benchmarks.scenarios import ORDERS, Scenario
from benchmarks.suites import SUITES, choose
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.stream import open_stream


def run(name, benchmark, config=None):
    method = make_method(name, benchmark, config or LearningConfig(), {})
    return json.loads(json.dumps(Run(method, benchmark).run()))


def here(calls, _):
    """Run calls in this process."""
    return (function(*arguments) for function, arguments in calls)


@pytest.mark.parametrize("order", ORDERS)
def test_orders_teach_each_chosen_frame_once(order, made):
    scenario = {"order": order, "n_experiences": 4, "per_class": 8}
    stream = made.benchmark(3, **scenario)
    rows = stream.train.rows
    assert len(set(rows.tolist())) == len(rows) <= 8 * len(stream.classes)
    assert len(set(stream.train.labels.tolist())) == len(stream.classes)
    np.testing.assert_array_equal(stream.train.labels, made.encoded.train.labels[rows])
    if order == "classes":
        groups = np.split(stream.train.labels, stream.starts[1:])
        assert not any(set(a) & set(b) for a, b in itertools.pairwise(groups))
    again = made.benchmark(3, **scenario)
    np.testing.assert_array_equal(again.train.rows, rows)


def test_noise_puts_wrong_labels_on_its_share_of_frames(made):
    stream = made.benchmark(order="iid", noise=0.25)
    wrong = stream.train.labels != made.encoded.train.labels[stream.train.rows]
    n = len(wrong)
    # 6 sigma of a binomial(n, 0.25)
    assert abs(wrong.sum() - 0.25 * n) < 6 * (n * 0.1875) ** 0.5
    assert wrong.any()


def test_wrong_labels_do_not_make_a_class_met(made):
    rows = [
        run("nearest class mean", made.benchmark(n_experiences=4, per_class=8, noise=noise))
        for noise in (0.5, 0.0)
    ]
    assert rows[0]["forgetting"] is not None
    assert [frames for frames, _ in rows[0]["curve"]] == [frames for frames, _ in rows[1]["curve"]]
    assert rows[0]["curve"][0][1] > 0.5  # of the three classes that were met


@pytest.mark.parametrize("name", [n for n, spec in METHODS.items() if spec.fits("mobilenet_v2")])
def test_every_method_runs(name, made):
    config = LearningConfig(memory_bytes=300_000, rehearsed_per_step=16)
    facts = run(name, made.benchmark(n_experiences=3, per_class=6), config)
    assert 0 <= facts["variants"][""] <= 1
    assert facts["learn_s"] > 0
    assert facts["memory_bytes"] >= 0
    if name in ("ridge", "plr", "fast classifier", "joint training"):
        assert facts["variants"][""] > 0.4  # chance is 0.08


def test_class_by_class_accuracy_is_taken_after_1_5_and_20_frames(made):
    facts = run("nearest class mean", made.benchmark(n_experiences=0, per_class=9))
    assert facts["after_5"] >= facts["after_1"] > 0.3
    assert "after_20" not in facts  # no class has so many


class Late(Method):
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
    stream = replace(made.benchmark(n_experiences=2, per_class=8), frozen_s=0.01)
    facts = Run(Late(), stream).run()
    n = len(stream.train.labels) // 2  # the first chunk of 16 waits for n frames, the last for 16
    assert facts["learned_after_s"] == pytest.approx(0.02 + 0.01 * (n + 16) / 2, rel=0.2)
    at_once = run("nearest class mean", stream)
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

    def accuracy(name, value, _):
        tried.append(value)
        return name, value, accuracies[value]

    monkeypatch.setattr(tuning, "make_benchmark", lambda *_: None)
    monkeypatch.setattr(tuning, "tried_accuracy", accuracy)
    monkeypatch.setattr(tuning, "TUNABLE", {"naive Bayes": ("floor", 0.1)})
    monkeypatch.setattr(tuning, "in_processes", here)
    settings = Settings(data=tmp_path, output=tmp_path, config=LearningConfig())
    assert tuning.tune(settings, jobs=1, say=print) == {"naive Bayes": {"floor": best}}
    assert sorted(tried) == sorted(accuracies)
    kept = json.loads((tmp_path / "tuning.json").read_text())
    kept["naive Bayes"].pop("0.1")  # as if it had been interrupted
    (tmp_path / "tuning.json").write_text(json.dumps(kept))
    assert tuning.read_tuned(tmp_path) == {}
    assert tuning.tune(settings, jobs=1, say=print) == {"naive Bayes": {"floor": best}}
    assert tried[len(accuracies) :] == ["0.1"]


def test_what_is_tried_in_tuning_is_the_accuracy_of_the_method_with_that_setting(
    tmp_path, made, monkeypatch
):  # fmt: skip
    stream = made.benchmark(tuning.TUNING_SEED, per_class=4)
    monkeypatch.setattr(tuning, "make_benchmark", lambda *_: stream)
    settings = Settings(data=tmp_path, output=tmp_path, config=LearningConfig())
    method = NaiveBayes(stream.train.seen.features.shape[1], len(stream.classes), floor=30.0)
    method.learn_many(stream.train.seen.features, stream.train.labels)
    right = method.scores_many(stream.test.seen.features).argmax(1) == stream.test.labels
    _, value, accuracy = tuning.tried_accuracy("naive Bayes", "30", settings)
    assert value == "30" and accuracy == pytest.approx(right.mean())
    assert accuracy != tuning.tried_accuracy("naive Bayes", "0.1", settings)[2]


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
    suite = SUITES["compare"]
    listed = choose(suite)
    assert {scenario.order for scenario in listed} == {"classes", "blocks", "iid", "long tail"}
    assert {s.noise for s in listed} == {0.0, 0.1, 0.2}
    assert {1, 5, 20, None} <= {s.per_class for s in listed}
    some = choose(
        suite, datasets=["mnist"], orders=["iid", "blocks"], frames=[1, None], experiences=5,
        noises=[0.0, 0.2],
    )  # fmt: skip
    assert len(set(some)) == 8 and {s.n_experiences for s in some} == {5}
    with pytest.raises(ConfigError, match="long tail"):
        choose(suite, orders=["sorted"])


def test_tables_replace_only_what_stands_between_their_marks(tmp_path):
    file = tmp_path / "page.md"
    page = "before\n<!-- figures: compare -->\n{}\n<!-- /figures: compare -->\nafter\n"
    file.write_text(page.format("old"))
    pages.fill(file, "compare", "new\n")
    assert file.read_text() == page.format("new")
    assert pages.parts(file) == {"compare": "new"}
    with pytest.raises(ConfigError, match="peers"):
        pages.fill(file, "peers", "x")


def row(method, seed, accuracy, macs):
    return {"scenario": "s", "method": method, "seed": seed, "n_frames": 10, "macs": 10 * macs,
            "variants": {"": accuracy}, "curve": [[1, accuracy]],
            "learn_ms_per_frame": 1.0}  # fmt: skip


def test_the_report_marks_the_best_its_ties_and_the_front(tmp_path):
    rows = [row("ridge", s, 0.50 + 0.01 * s, 1e6) for s in range(3)]
    rows += [row("plr", s, 0.60 + 0.01 * s, 9e6) for s in range(3)]
    rows += [row("internal replay", s, 0.599 + 0.01 * s + 0.002 * (s == 1), 20e6) for s in range(3)]
    rows += [row("joint training", s, 0.7, 99e6) for s in range(3)]
    lines = {line["method"]: line for line in summary.summary(rows, "s")}
    assert lines["plr"]["best"] and not lines["ridge"]["best"]
    assert not lines["joint training"]["best"]
    assert lines["internal replay"]["tied"]  # the difference is within the paired interval
    assert lines["ridge"]["front"] and lines["plr"]["front"]
    assert not lines["internal replay"]["front"]
    table = grid_report.write_grid(tmp_path, "compare", rows)
    assert (tmp_path / "compare.csv").read_text().count("\n") == 13
    assert json.loads((tmp_path / "compare.json").read_text())["rows"] == rows
    assert "| * plr | **61.0 ± 2.5** |" in table and "| internal replay | 61.0 ± 2.5 = |" in table
    assert "`plr` minus `internal replay`, the best that is not ours:" in table
    assert table.splitlines()[2] == (
        "| s | 3 | plr | 61.0 | internal replay | 61.0 | +0.0 ± 0.3 | 70.0 | plr |"
    )


@pytest.mark.parametrize(
    ("values", "half"),
    [([36.0, 37.0, 38.0], 2.484), ([50.0, 51.0], 6.353), ([60.0, 60.5, 61.0, 61.5, 62.0], 0.982)],
)
def test_intervals_are_those_of_students_t(values, half):
    assert summary.half_interval(np.array(values)) == pytest.approx(half, abs=1e-3)
    assert summary.half_interval(np.array(values[:1])) is None


def test_no_interval_is_made_from_the_normal_distribution():
    sources = Path(summary.__file__).parent.rglob("*.py")
    made = {p.name for p in sources if re.search(r"\b1\.96\b|norm\.ppf|sem\(", p.read_text())}
    assert made == set()


def test_pareto_keeps_what_nothing_beats():
    assert summary.pareto([(1, 5), (2, 5), (2, 7), (3, 6)]) == [True, False, True, False]


def test_images_of_a_part_are_those_of_its_rows(made):
    frames = list(made.dataset.frames(made.folder, "train"))
    got = made.encoded.train.take(np.array([5, 2])).images.get(np.array([5, 2]))
    np.testing.assert_array_equal(got[0], frames[5].image)
    np.testing.assert_array_equal(got[1], frames[2].image)


def test_processes_give_results_as_they_come():
    pytest.importorskip("joblib")
    assert sorted(in_processes([(pow, (i, 2)) for i in range(4)], 1)) == [0, 1, 4, 9]


def test_rows_are_kept_by_settings_and_survive_a_torn_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    for bits, seed in ((8, 0), (4, 0), (8, 1)):
        Rows(file, {"bits": bits}).add({"seed": seed})
    with file.open("a") as torn:
        torn.write('{"settings": {"bi')
    kept = Rows(file, {"bits": 8})
    assert kept.of("seed") == {(0,), (1,)}
    kept.add({"seed": 2})
    assert [row["seed"] for row in Rows(file, {"bits": 8}).rows] == [0, 1, 2]
    assert Rows(file, {"bits": 8}, again=True).rows == Rows(file, {"bits": 8}).rows == []
    assert [row["seed"] for row in Rows(file, {"bits": 4}).rows] == [0]


def test_a_grid_runs_what_is_missing_and_what_another_setting_was_chosen_for(
    tmp_path, monkeypatch
):  # fmt: skip
    ran = []

    def run_one(cell, settings, tuned):
        ran.append((cell.method, cell.seed))
        made = row(cell.method, cell.seed, 0.5, 1.0)
        return {**made, "scenario": cell.scenario.name, "tuned": tuned}

    monkeypatch.setattr(runner, "make_benchmark", lambda *_: None)
    monkeypatch.setattr(runner, "run_one", run_one)
    monkeypatch.setattr(runner, "in_processes", here)
    scenario, methods = Scenario(dataset="mnist"), ("ridge", "naive Bayes")
    settings = Settings(data=tmp_path, output=tmp_path, config=LearningConfig())

    def grid(n_seeds, **tuned):
        cells = [Cell(name, scenario, seed) for seed in range(n_seeds) for name in methods]
        return runner.run_grid(cells, "x", settings, tuned=tuned, jobs=1, say=lambda _: None)

    grid(1)
    assert len(grid(2)) == 4
    assert ran == [("ridge", 0), ("naive Bayes", 0), ("ridge", 1), ("naive Bayes", 1)]
    rows = grid(2, **{"naive Bayes": {"floor": 0.1}})
    assert ran[4:] == [("naive Bayes", 0), ("naive Bayes", 1)]
    assert [one["tuned"] for one in rows if one["method"] == "naive Bayes"] == [{"floor": 0.1}] * 2
    assert len(rows) == 4


def test_a_stream_that_is_too_long_for_a_method_is_skipped_with_the_reason(made, monkeypatch):
    monkeypatch.setattr(runner, "make_benchmark", lambda *_: made.benchmark(per_class=6))
    spec = replace(METHODS["ridge"], most_frames=10)
    monkeypatch.setitem(METHODS, "ridge", spec)
    settings = Settings(data=made.folder, output=made.folder, config=LearningConfig())
    skipped = runner.run_one(Cell("ridge", Scenario(dataset="films"), 0), settings, {})
    assert skipped["skipped"] == "72 frames; at most 10 are tried"
    rows = [{**row("plr", 0, 0.5, 1.0), "scenario": skipped["scenario"]}, skipped]
    assert "Not run: ridge (72 frames" in grid_report.markdown(rows)


def test_the_seeds_of_a_suite_are_those_of_its_page():
    suite = SUITES["compare"]
    scenarios = choose(suite)
    cells = suites.cells(suite, scenarios, (), quick=False, seeds=None)
    seeds = Counter((cell.scenario.name, cell.method) for cell in cells)
    assert seeds["cifar100 10 x 20", "raw replay, whole network"] == 3
    assert seeds["cifar100 10 x 1", "plr"] == 1
    assert seeds["cifar100 10 x 1", "raw replay, whole network"] == 0
    assert not [cell for cell in cells if METHODS[cell.method].vectors]
    quick = suites.cells(suite, choose(suite, quick=True), (), quick=True, seeds=None)
    assert {cell.seed for cell in quick} == {0}
    assert not [cell for cell in quick if METHODS[cell.method].slow]


def test_a_folder_is_compared_from_the_command_line_and_the_run_resumes(tmp_path, bundle_path):
    for name in ("apple_20", "cherry_1"):
        for frame in (f for f in open_stream("demo", limit_per_class=8) if f.label == name):
            file = tmp_path / "photos" / name / f"{frame.index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame.image).save(file)
    options = ["--dataset", str(tmp_path / "photos"), "--frames", "4", "--experiences", "2",
               "--bundle", str(bundle_path), "-o", str(tmp_path / "out")]  # fmt: skip
    methods = ["--method", "nearest class mean", "--method", "plr"]
    result = CliRunner().invoke(command, ["compare", *options, *methods])
    assert result.exit_code == 0, result.output
    assert "2 of 2 runs are missing" in result.output
    assert "| nearest class mean |" in (tmp_path / "out" / "compare.md").read_text()
    rows, about = read_results(tmp_path / "out", "compare")
    assert [row["method"] for row in rows] == ["nearest class mean", "plr"]
    assert rows[1]["n_frames"] == 8 and rows[1]["variants"][""] >= 0.5 and about["n_cores"] > 0
    again = CliRunner().invoke(command, ["compare", *options, *methods])
    assert "0 of 2 runs are missing" in again.output


def test_names_of_the_release_before_still_work(tmp_path):
    result = CliRunner().invoke(command, ["cifar100-stream", "--data", str(tmp_path),
                                          "-o", str(tmp_path), "--method", "nonsense"])  # fmt: skip
    assert "`cifar100-stream` is now `streams --dataset cifar100`" in result.output
    assert result.exit_code == 2 and "no method 'nonsense'" in result.output
