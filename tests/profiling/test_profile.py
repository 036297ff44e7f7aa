"""Profiles: figures that add up, energy from the meters, files that other commands read."""

import json
import re
import sys
import time

import pytest
from fake_boards import make_board

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.meters import measure_idle
from plr_edge.meters.hwmon import find_ina3221
from plr_edge.profiling.process_memory import role_memory
from plr_edge.profiling.profile import read_profile, read_step_costs
from plr_edge.profiling.timing import Job, measure, measure_ms


@pytest.fixture(scope="module")
def profiled(bundle_path, plr_edge, tmp_path_factory):
    """The same bundle twice in one profile, with everything that can be written."""
    folder = tmp_path_factory.mktemp("profile")
    files = {kind: folder / f"p.{kind}" for kind in ("json", "html", "trace")}
    options = [str(x) for kind, file in files.items() for x in (f"--{kind}", file)]
    result = plr_edge("profile", str(bundle_path), str(bundle_path), "--runs", "5", *options)
    assert result.exit_code == 0, result.output
    return files, result.output


def test_profile_holds_every_part_and_level_of_every_bundle(profiled, bundle_path):
    facts = json.loads(profiled[0]["json"].read_bytes())
    bundle = open_bundle(bundle_path)
    assert len(facts["bundles"]) == 2
    for entry in facts["bundles"]:
        parts = [(row["part"], row["batch"]) for row in entry["engines"]]
        assert parts == [("prepare", 1), ("frozen", 1), ("frozen", 64), ("adaptive", 1),
                         ("adaptive", 64), ("frame", 1)]  # fmt: skip
        assert [step["level"] for step in entry["steps"]] == [x.name for x in bundle.levels]
        for row in [*entry["engines"], *entry["steps"]]:
            assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        macs = [step["macs"] for step in entry["steps"]]
        assert macs == sorted(macs, reverse=True)
        assert entry["memory"]["trains"]["data_bytes"] > entry["memory"]["answers"]["rss_bytes"]
    assert facts["machine"]["arch"] and facts["memory"]["numpy and onnxruntime"]["rss_bytes"]


def test_profile_prints_bundles_beside_each_other(profiled):
    output = profiled[1]
    assert "one call, 1 thread, 12 classes" in output and "faster" in output
    assert len(re.findall(r"^ *block16 ", output, re.MULTILINE)) == 2


def test_page_is_whole_and_self_contained(profiled):
    page = profiled[0]["html"].read_text()
    assert page.count("<svg") >= 5 and page.rstrip().endswith("</html>")
    for heading in ("Machine", "A frame", "A training step of 64", "Memory of a process", "A run"):
        assert f"<h2>{heading}" in page
    loaded = re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page)
    assert [x for x in loaded if "w3.org" not in x] == []


def test_trace_option_writes_a_trace(profiled):
    events = json.loads(profiled[0]["trace"].read_bytes())["traceEvents"]
    assert {e["name"] for e in events if e["ph"] == "X"} >= {
        "capture",
        "frozen",
        "adaptive",
        "train",
    }
    assert sum(e["name"] == "process_name" for e in events) == 3


def test_costs_are_read_by_bundle_from_new_and_old_files(profiled, bundle_path, tmp_path):
    bundle = open_bundle(bundle_path)
    facts = json.loads(profiled[0]["json"].read_bytes())
    expected = tuple(step["p50_ms"] for step in facts["bundles"][0]["steps"])
    assert read_step_costs(profiled[0]["json"], bundle) == expected
    old = tmp_path / "old.json"  # schema 1: one bundle, its facts at the top
    old.write_text(json.dumps({"schema": 1, **facts["bundles"][0]}))
    assert read_step_costs(old, bundle) == expected
    facts["bundles"] = [{**facts["bundles"][0], "frozen_sha256": "0"}]
    old.write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="another bundle"):
        read_step_costs(old, bundle)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bundles": 3}', '{"bundles": [{"steps": 1}]}'])
def test_what_is_no_profile_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ConfigError, match="is not a profile"):
        read_profile(tmp_path / "p.json")


def test_page_without_matplotlib_is_refused_at_once(plr_edge, bundle_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = plr_edge("profile", str(bundle_path), "--html", "x.html")
    assert result.exit_code == 2 and "plr-edge[report]" in result.output


def test_bundles_are_timed_in_turns():
    order = []
    measure_ms([lambda: order.append("a"), lambda: order.append("b")], runs=10, warmup=1)
    assert "".join(order) == "ab" + 5 * "aabb"


def test_energy_is_that_of_the_board_less_idle(tmp_path, monkeypatch):
    """A board that takes 4 W, and 6 W while it works: a call of 20 ms is 120 mJ, net 40."""
    monkeypatch.setattr("plr_edge.profiling.timing._WINDOW_S", 0.2)
    fake = make_board("orin-nano-4gb", tmp_path)
    meter = find_ina3221(fake.sysfs, interval_s=0.01)
    fake.set_total_w(4.0)
    idle = measure_idle([meter], 0.1)
    fake.set_total_w(6.0)
    jobs = [Job({}, lambda: time.sleep(0.02), runs=2), Job({}, lambda: None, 2, has_energy=False)]
    measure(jobs, 0, [meter], idle)
    row = jobs[0].row
    assert row["energy_mj"]["ina3221"] == pytest.approx(6 * row["p50_ms"], rel=0.2)
    assert row["net_mj"]["ina3221"] == pytest.approx(row["energy_mj"]["ina3221"] / 3, rel=0.01)
    assert "energy_mj" not in jobs[1].row


def test_without_a_meter_there_are_no_joules():
    jobs = [Job({}, lambda: None, runs=2)]
    measure(jobs, 0, [], {})
    assert set(jobs[0].row) == {"p50_ms", "p90_ms", "p99_ms", "runs"}


def test_a_smaller_latent_memory_needs_less_data(profiled, bundle_path):
    facts = json.loads(profiled[0]["json"].read_bytes())
    large = facts["bundles"][0]["memory"]["trains"]["data_bytes"]
    config = LearningConfig(memory_bytes=1_000_000)
    small = role_memory(open_bundle(bundle_path), config)["trains"]["data_bytes"]
    assert large - small > 50_000_000  # features of deeper levels, reserved at once
