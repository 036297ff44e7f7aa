import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import unknown, unknown_report
from benchmarks.cli import command
from benchmarks.methods.plr import PlrEdge
from benchmarks.scenarios import without_classes
from plr_edge.config import LearningConfig

ORDERS = [
    {"order": "classes", "n_experiences": 0},
    {"order": "given"},
    {"order": "iid", "noise": 0.3},
]


@pytest.mark.parametrize("scenario", ORDERS)
def test_classes_held_back_are_never_taught_and_the_rest_keeps_its_order(made, scenario):
    whole = made.benchmark(1, **scenario)
    strangers = unknown.held_back(len(whole.classes), 1)
    stream = without_classes(whole, strangers)
    assert len(strangers) == 2
    assert not set(stream.train.labels) & set(strangers)
    assert not set(stream.right_labels) & set(strangers)
    kept = ~(np.isin(whole.right_labels, strangers) | np.isin(whole.train.labels, strangers))
    np.testing.assert_array_equal(stream.train.rows, whole.train.rows[kept])
    assert set(stream.test.labels) >= set(strangers)
    assert stream.starts[0] == 0
    assert all(end > start for start, end in stream.experiences)
    if scenario == ORDERS[0]:  # experiences of a class that is held back are gone
        assert len(stream.experiences) == len(whole.experiences) - 2
        assert all(len(set(stream.train.labels[a:b])) == 1 for a, b in stream.experiences)


@pytest.fixture(scope="module")
def measured(made):
    benchmark = made.benchmark(0, order="iid")
    strangers = unknown.held_back(len(benchmark.classes), 0)
    method = unknown.taught(PlrEdge(without_classes(benchmark, strangers), LearningConfig()))
    strange = np.isin(benchmark.test.labels, strangers)
    return method, benchmark, strange, unknown.measure(method, benchmark.test, strange)


def test_held_out_scores_are_those_that_the_threshold_was_fitted_to(measured):
    method = measured[0]
    learner = method.session.learned.classifier.mixing
    rule, held = learner.mix.unknown, unknown.held_out_scores(learner)
    combined = np.sort(((held[:, :3] - rule.means) / rule.spreads).mean(axis=1))
    np.testing.assert_allclose(combined, rule.held_out, atol=1e-3)
    assert ((0 < held[:, 3]) & (held[:, 3] <= 1)).all()


def test_shares_flagged_are_those_of_the_answers(measured):
    method, benchmark, strange, row = measured
    facts = row["scores"][unknown.COMBINED]
    for i, share in enumerate(unknown.ASKED):
        method.session.learned.classifier.mixing.allow_unknown(share)
        flagged = method.answer_many(benchmark.test).unknown
        assert facts["flagged_known"][i] == pytest.approx(flagged[~strange].mean())
        assert facts["flagged_strangers"][i] == pytest.approx(flagged[strange].mean())
    assert facts["auroc"] > 0.7
    assert 0 <= facts["fpr_at_95_tpr"] <= 1
    assert list(row["scores"]) == [unknown.COMBINED, *unknown.SCORES]
    assert row["n_known"] + row["n_strangers"] == len(benchmark.test.labels)


def test_a_score_that_tells_everything_and_one_that_tells_nothing():
    strange = np.arange(400) % 4 == 0
    apart = np.where(strange, -1.0, 1.0) + np.linspace(0, 0.5, 400)
    flagged = [apart < 0] * 3
    facts = unknown._facts(apart, strange, flagged)
    assert facts["auroc"] == 1 and facts["fpr_at_95_tpr"] == 0
    assert facts["flagged_known"] == [0, 0, 0] and facts["flagged_strangers"] == [1, 1, 1]
    same = np.random.default_rng(0).permutation(400).astype(float)
    facts = unknown._facts(same, strange, flagged)
    assert facts["auroc"] == pytest.approx(0.5, abs=0.1)
    assert facts["fpr_at_95_tpr"] == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [
        ([0.9] * 10, [1] * 9 + [0], 0.0),
        ([1.0] * 4, [1, 1, 1, 0], 0.25),
        ([0.99] * 5 + [0.5] * 5, [1] * 5 + [0] * 5, 0.5 * 0.01 + 0.5 * 0.5),
    ],
)
def test_calibration_error_is_the_mean_distance_from_the_share_of_right_answers(
    confidence, right, error
):
    facts = unknown.calibration(np.array(confidence), np.array(right, bool))
    assert facts["error"] == pytest.approx(error, abs=1e-6)
    assert sum(n for _, _, n in facts["bins"]) == len(right)


def test_tables_and_pictures_of_streams_with_and_without_a_threshold(measured, tmp_path):
    row = measured[3]
    rows = [
        {"stream": "films", "seed": seed, "n_held_back": 2, **row,
         "calibration_of_all": row["calibration"]}
        for seed in range(3)
    ]  # fmt: skip
    few = {**rows[0], "stream": "few", "scores": {}}
    text = unknown_report.write(tmp_path, [*rows, few])
    assert "| films | 3 | 2 |" in text and "Too few frames of a class" in text and "few." in text
    assert f"| films | **{unknown.COMBINED}** |" in text
    assert json.loads((tmp_path / "unknown.json").read_text())["rows"][0]["stream"] == "films"
    assert len((tmp_path / "unknown.csv").read_text().splitlines()) == 1 + 3 * 5
    page = (tmp_path / "unknown.html").read_text()
    assert page.count("<svg") == 3


def test_rows_are_kept_and_not_measured_again(tmp_path, monkeypatch, made):
    asked = []

    def measure(scenario, seed, settings):
        asked.append((scenario.name, seed))
        return {"stream": scenario.name, "seed": seed, "scores": {}}

    monkeypatch.setattr(unknown, "make_benchmark", lambda *_: None)
    monkeypatch.setattr(unknown, "run_stream", measure)
    monkeypatch.setattr(unknown, "in_processes", lambda calls, _: (f(*a) for f, a in calls))
    settings = unknown.Settings(data=tmp_path, output=tmp_path, config=LearningConfig())
    streams = (unknown.MAIN[4], unknown.FULL[-1])
    for expected in (4, 4):  # three seeds of the main stream, one of the other
        rows = unknown.run_streams(streams, None, settings, jobs=1, say=lambda _: None, again=False)
        assert len(rows) == len(asked) == expected
    unknown.run_streams(streams, 1, settings, jobs=1, say=lambda _: None, again=True)
    assert len(asked) == 6


def test_a_data_set_without_a_stream_is_refused():
    result = CliRunner().invoke(command, ["unknown", "--quick", "--dataset", "cifar100"])
    assert result.exit_code == 2
    assert "no stream is of cifar100; there are eth80, mnist" in result.output
