import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import consolidation, consolidation_report
from benchmarks.cli import command
from benchmarks.consolidation import Cycle, Group, Storage
from benchmarks.runner import Settings
from benchmarks.scenarios import Scenario
from plr_edge.config import LearningConfig

SETTINGS = Settings(data=Path("none"), output=Path("none"), config=LearningConfig())
SCENARIO = Scenario(dataset="films", order="given")
STORED = Storage(memory_bytes=1_000_000)


@pytest.fixture
def rows(made, monkeypatch):
    monkeypatch.setattr(
        consolidation,
        "make_benchmark",
        lambda scenario, seed, *_: made.benchmark(seed, order="iid"),
    )

    def run(*cycles, storage=STORED):
        return consolidation.run_group(Group(SCENARIO, 0, storage, cycles), SETTINGS)

    return run


def test_a_cycle_does_not_see_those_before_it(rows):
    alone = rows(Cycle("internal", 0.5))
    after = rows(Cycle("classifier", 1.0), Cycle("internal", 0.5))
    assert alone[0]["accuracy"] == after[1]["accuracy"]
    assert alone[0]["steps_per_level"] == after[1]["steps_per_level"]
    assert after[0]["steps_per_level"][0] == 0 < after[1]["steps_per_level"][0]


def test_the_budget_is_spent_and_not_exceeded_by_more_than_a_step(rows):
    for row in rows(Cycle("internal", 1.0), Cycle("progressive", 1.0), Cycle("classifier", 0.05)):
        share = row["macs"] / row["n_labels"]
        assert row["macs"] > 0
        assert share < 1.3 * row["ratio"] * 200e6  # no bundle of the tests costs that much a frame


def test_a_window_that_is_not_there_is_left_out_with_the_reason(rows):
    (row,) = rows(Cycle("internal", 0.5), storage=Storage(memory_bytes=10**6, window=77))
    assert "window is 77" in row["skipped"]
    assert "Left out: window is 77" in consolidation_report.markdown([row])


def test_the_report_shows_each_setting(rows, tmp_path):
    made = rows(Cycle("internal", 0.5)) + rows(
        Cycle("internal", 0.5), storage=Storage(memory_bytes=10**6, window=0)
    )
    text = consolidation_report.write(tmp_path, made)
    assert text.count("internal") == 2 and "whole maps" in text
    assert len(json.loads((tmp_path / "consolidation.json").read_text())["rows"]) == 2
    assert made[0]["step_macs"] <= made[1]["step_macs"]


def test_grids_hold_every_ratio_of_one_seed_and_three_of_the_others():
    groups = consolidation.schedules(8_000_000, 2, consolidation.MAIN)
    ratios = {seed: {c.ratio for c in cycles} for _, seed, _, cycles in groups}
    assert ratios == {0: set(consolidation.RATIOS), 1: {0.1, 0.75, 3.0}}
    stored = [group[2] for group in consolidation.resolutions(8_000_000, 1, consolidation.MAIN[:1])]
    assert len(set(stored)) == len(stored) == 14


def test_an_unknown_data_set_is_one_line(tmp_path):
    arguments = ["consolidation", "--dataset", "nothing", "-o", str(tmp_path)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2 and "nothing" in result.output
