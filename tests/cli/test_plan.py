"""`plr-edge plan` on profiles that stand for boards; what it measures itself is tried when slow."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace

import click
import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.cli import cli
from plr_edge.config import LearningConfig
from plr_edge.planning import planner as planning
from plr_edge.planning.configurations import Constraints
from plr_edge.planning.search_space import SearchSpace
from plr_edge.planning.trials import Trial
from plr_edge.robot.governor import Budget


def entry_of(configuration, digest: str, ms_per_mmac: float = 0.1, joules: bool = True) -> dict:
    """Return a profile's entry, on a board on which only multiply-adds cost time."""
    mmacs = {"prepare": 0.1, "frozen": configuration.frozen_macs / 1e6,
             "adaptive": configuration.adaptive_macs / 1e6}  # fmt: skip
    mmacs["frame"] = sum(mmacs.values())

    def row(n: float) -> dict:
        energy = {"net_mj": {"ina3221": 3 * n * ms_per_mmac}} if joules else {}
        ms = n * ms_per_mmac
        return {"p50_ms": ms, "p90_ms": ms, "p99_ms": 1.2 * ms, **energy}

    steps = [{"macs": macs, **row(macs / 4e6)} for macs in configuration.step_macs(64)]
    return {
        "path": "bundle", "backbone": "mobilenet_v2", "cut": configuration.cut,
        "input_size": configuration.input_size, "precision": configuration.precision,
        "frozen_sha256": digest, "steps": steps,
        "engines": [{"part": part, "batch": 1, **row(n)} for part, n in mmacs.items()],
        "memory": {"trains": {"data_bytes": 400_000_000}, "answers": {"peak_rss_bytes": 10**8}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def space(bundle_path):
    return SearchSpace(open_bundle(bundle_path))


@pytest.fixture(autouse=True)
def computed_once(space, monkeypatch):
    """Passes through the backbone at each size are the same in every test."""
    compute = SearchSpace._at
    monkeypatch.setattr(SearchSpace, "_at", lambda self, size: compute(space, size))


@pytest.fixture
def profile(space, tmp_path):
    """Write a profile of the bundle, and return its path as a text."""

    def write(joules: bool = True, board: str = "NVIDIA Jetson Orin Nano", **more) -> str:
        facts = {
            "schema": 2, "machine": {"board_model": board, "n_cores": 6},
            "idle": {"ina3221": {"w": 3.5}} if joules else {}, "energy_sources": [],
            "energy_absent": [] if joules else ["rapl: no intel-rapl zone"],
            "bundles": [entry_of(space.own, space.bundle.frozen_sha256, joules=joules)], **more,
        }  # fmt: skip
        (tmp_path / "costs.json").write_text(json.dumps(facts))
        return str(tmp_path / "costs.json")

    return write


def test_plan_keeps_the_budgets_and_says_what_each_rejected_one_breaks(
    plr_edge, bundle_path, profile
):
    budgets = ("--power", "7W", "--memory-limit", "600MB", "--deadline", "25ms")
    result = plr_edge("plan", str(bundle_path), "--profile", profile(), *budgets, "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    best, rows = plan["recommended"], plan["candidates"]
    assert best["breaks"] is None and best["frame_p99_ms"] <= 25
    assert best["trainer_bytes"] <= 0.95 * 600e6 and best["watts_without_training"] < 7
    power_w = best["watts_without_training"] + best["steps_per_s"] * best["step_mj"] / 1e3
    assert power_w <= 0.93 * 7 + 1e-6
    for row in rows:
        limits = {
            "deadline": row["frame_p99_ms"] > 25,
            "memory": row["trainer_bytes"] > 0.95 * 600e6,
            "power": row["watts_without_training"] > 0.93 * 7,
        }
        broken = (row["breaks"] or "").partition(":")[0]
        assert not any(limits.values()) or limits.get(broken) or broken == "rate", row
        assert limits.get(broken, True)
    sizes, cuts = {row["input_size"] for row in rows}, {row["cut"] for row in rows}
    assert sizes == {96, 128, 160, 224} and {"block7", "block14", "classifier"} <= cuts
    assert {(r["breaks"] or "kept").partition(":")[0] for r in rows} >= {
        "kept",
        "deadline",
        "memory",
    }
    assert [bool(row["breaks"]) for row in rows] == sorted(bool(row["breaks"]) for row in rows)


def test_commands_of_a_plan_are_commands(plr_edge, bundle_path, profile):
    """Click itself reads what the plan says to type."""
    options = ("--power", "7W", "--deadline", "25ms", "--json")
    result = plr_edge("plan", str(bundle_path), "--profile", profile(), *options)
    lines = json.loads(result.stdout)["commands"]
    assert lines[0].endswith(" &&") and len(lines) == 2
    for line in lines:
        program, name, *arguments = shlex.split(line.removesuffix(" &&"))
        command = cli.get_command(click.Context(cli), name)
        parsed = command.make_context(name, arguments).params
        assert program == "plr-edge"
    assert parsed["power"] == "7W" and parsed["deadline"] == "25ms"


def test_table_shows_the_recommended_one_and_what_it_gives_up(plr_edge, bundle_path, profile):
    result = plr_edge("plan", str(bundle_path), "--profile", profile(), "--deadline", "25ms")
    assert result.exit_code == 0, result.output
    for text in ("recommended: ", "ranked by: ", "steps/s", "breaks", "costs: measured on NVIDIA",
                 "deadline: ", "latents/MB", "gives up"):  # fmt: skip
        assert text in result.output
    everything = plr_edge("plan", str(bundle_path), "--profile", profile(), "--all").output
    assert everything.count(" fp32") > result.output.count(" fp32")


def test_power_without_joules_is_refused_in_one_line(plr_edge, bundle_path, profile):
    for start in (("--profile", profile(joules=False)), ()):
        result = plr_edge("plan", str(bundle_path), *start, "--power", "7W")
        assert result.exit_code == 2 and "a budget of 7W needs joules, and " in result.output
        assert len(result.output.strip().splitlines()) == 1
    absent = plr_edge("plan", str(bundle_path), "--profile", profile(joules=False)).output
    assert "absent" in absent


def test_board_without_joules_leaves_its_power_out_and_says_so(plr_edge, bundle_path, profile):
    start = ("plan", str(bundle_path), "--profile", profile(joules=False, board="a workstation"))
    result = plr_edge(*start, "--board", "orin-nano-4gb")
    assert "10W of the board is left out: it needs joules" in result.output
    assert "not on Jetson Orin Nano 4 GB" in result.output.replace("\n", " ")
    result = plr_edge("plan", str(bundle_path), "--profile", profile(), "--board", "orin-nano-4gb")
    assert "10 W, 1000 MB, 33 ms, duty 50%" in result.output.replace("\n", " ")
    assert "measured on another" not in result.output and ", not on" not in result.output


def test_budgets_that_nothing_keeps_end_with_1_and_what_comes_nearest(
    plr_edge, bundle_path, profile
):
    result = plr_edge("plan", str(bundle_path), "--profile", profile(), "--deadline", "1ms")
    assert result.exit_code == 1
    assert "no configuration keeps every budget" in result.output and "deadline: " in result.output


def test_fewer_latents_where_the_trainer_would_not_fit(plr_edge, bundle_path, profile):
    """The trainer of the bundle itself needs 400 MB with 8 MB of latents."""
    start = ("plan", str(bundle_path), "--profile", profile(), "--deadline", "9ms", "--json")
    rows = {}
    for budget in ("500MB", "340MB", "100MB"):
        plan = json.loads(plr_edge(*start, "--memory-limit", budget).stdout)
        found = {(r["input_size"], r["cut"], r["precision"]): r for r in plan["candidates"]}
        rows[budget] = found[96, "block14", "fp32"]
    assert rows["500MB"]["latent_memory_bytes"] == 8_000_000
    assert rows["340MB"]["latent_memory_bytes"] < 8_000_000 and not rows["340MB"]["breaks"]
    assert rows["340MB"]["trainer_bytes"] <= 0.95 * 340e6
    assert rows["100MB"]["breaks"] == "memory: 400 MB"


def test_profile_of_another_backbone_is_refused(plr_edge, bundle_path, profile, space):
    other = {**entry_of(space.own, "0"), "backbone": "resnet18"}
    result = plr_edge("plan", str(bundle_path), "--profile", profile(bundles=[other]))
    assert result.exit_code == 2 and "has no bundle of mobilenet_v2" in result.output
    broken = entry_of(space.own, "0")
    del broken["memory"]
    result = plr_edge("plan", str(bundle_path), "--profile", profile(bundles=[broken]))
    assert result.exit_code == 2 and "the profile lacks 'memory'" in result.output


def test_finalists_are_measured_until_the_best_is(space, tmp_path, monkeypatch):
    """Estimates come true or do not: here every larger input takes three times its estimate."""
    made = []

    def profile_bundles(bundles, config, **_):
        made.append([bundle.configuration.name for bundle in bundles])
        return {"bundles": [
            entry_of(one, one.name, 0.3 if one.input_size > 96 else 0.1)
            for one in (bundle.configuration for bundle in bundles)
        ]}  # fmt: skip

    monkeypatch.setattr(planning, "profile_bundles", profile_bundles)
    monkeypatch.setattr(space, "export", lambda configuration, folder: SimpleNamespace(
        configuration=configuration))  # fmt: skip
    constraints = Constraints(
        budget=Budget(deadline_ms=25), memory_limit_bytes=None, frames_per_s=30
    )
    planner = planning.Planner(space, constraints, LearningConfig(), tmp_path, finalists=2)
    facts = {"machine": {}, "idle": {}, "energy_absent": [],
             "bundles": [entry_of(space.own, "own")]}  # fmt: skip
    estimated = planner.recommend(facts, measured_here=False).best
    plan = planner.recommend(facts, measured_here=True)
    assert estimated.configuration.input_size > 96 and not estimated.costs.measured
    assert made and all(len(names) <= 2 for names in made)
    assert plan.best.costs.measured and plan.best.costs.frame_p99_ms <= 25


def test_a_configuration_that_cannot_be_exported_is_rejected_with_the_reason(
    space, tmp_path, monkeypatch
):
    from plr_edge.errors import BundleError

    def export(configuration, folder):
        raise BundleError("the exported parts do not match PyTorch")

    monkeypatch.setattr(space, "export", export)
    constraints = Constraints(budget=Budget(), memory_limit_bytes=None, frames_per_s=30)
    planner = planning.Planner(space, constraints, LearningConfig(), tmp_path, finalists=1)
    facts = {"machine": {}, "idle": {}, "energy_absent": [],
             "bundles": [entry_of(space.own, "own")]}  # fmt: skip
    first = planner.recommend(facts, measured_here=False).best.configuration
    plan = planner.recommend(facts, measured_here=True)
    assert plan.failed[first.name] == "the exported parts do not match PyTorch"
    assert [j.violation for j in plan.assessments if j.configuration.key == first.key] == [
        "export: refused"
    ]


def small(cut: str) -> SearchSpace:
    """A backbone that nobody measured, made for 32 pixels."""
    manifest = {"backbone": "bir_c3", "cut": cut, "precision": "fp32"}
    bundle = SimpleNamespace(manifest=manifest, windows={}, preprocessing=SimpleNamespace(size=32),
                             trusted=False, path="small", frozen_sha256="small")  # fmt: skip
    return SearchSpace(bundle)


def test_small_backbone_keeps_its_size(tmp_path):
    space = small("block2")
    found = space.configurations(["fp32", "int8"])
    assert {c.input_size for c in found} == {32} and len({c.cut for c in found}) > 2
    levels = space.own.levels
    assert space.own.frozen_macs > 0 and levels[0].name == "block2"
    sums = {c.frozen_macs + c.adaptive_macs for c in found}
    assert len(sums) == 1  # every cut divides the same network
    saved = [c.saved_bytes for c in found if c.precision == "fp32"]
    assert saved == sorted(saved, reverse=True) and saved[-1] == 0


def test_without_a_stream_no_accuracy_is_known_and_the_largest_input_comes_first(space, tmp_path):
    constraints = Constraints(budget=Budget(), memory_limit_bytes=None, frames_per_s=5)
    planner = planning.Planner(space, constraints, LearningConfig(), tmp_path)
    facts = {"machine": {}, "idle": {}, "bundles": [entry_of(space.own, "own")]}
    found = planner.recommend(facts, measured_here=False)
    assert {one.accuracy for one in found.assessments} == {None}
    kept = [one.configuration.input_size for one in found.assessments if not one.violation]
    assert len(kept) > 2 and kept == sorted(kept, reverse=True)
    assert "not measured, use --stream" in found.criterion


def test_as_accurate_means_the_cheaper_frame_comes_first(space, tmp_path):
    constraints = Constraints(budget=Budget(), memory_limit_bytes=None, frames_per_s=5)
    planner = planning.Planner(space, constraints, LearningConfig(), tmp_path)
    facts = {"machine": {}, "idle": {}, "bundles": [entry_of(space.own, "own")]}
    planner._measured = {(224, "block14", "fp32"): 0.600, (160, "block14", "fp32"): 0.595,
                         (128, "block14", "fp32"): 0.500}  # fmt: skip
    keys = [j.configuration.key
            for j in planner.recommend(facts, measured_here=False).assessments[:3]]  # fmt: skip
    assert [size for size, _, _ in keys] == [160, 224, 128]


def test_every_fourth_frame_of_a_folder_is_held_out(tmp_path):
    import numpy as np
    from PIL import Image

    for i in range(8):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
    trial = Trial.open(str(tmp_path))
    taught, held_out = ([f.image[0, 0, 0] for f in s] for s in (trial.taught, trial.held_out))
    assert len(taught) == 6 and len(held_out) == 2 and not set(taught) & set(held_out)
    assert len(list(trial.taught)) == 6  # and can be read again


def test_accuracy_is_measured_on_the_stream(plr_edge, bundle_path, profile):
    """Under 9 ms there is nothing but the bundle's own size, and its own cut is the default one."""
    options = ("--stream", "demo", "--limit-per-class", "6", "--finalists", "1", "--json")
    result = plr_edge("plan", str(bundle_path), "--profile", profile(), "--deadline", "9ms",
                      *options)  # fmt: skip
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    best = plan["recommended"]
    assert (best["input_size"], best["cut"]) == (96, "block14") and best["accuracy"] > 0.7
    assert all(0 < row["accuracy"] <= 1 for row in plan["codecs"])
    assert "held-out frames of your stream" in plan["ranked_by"]
    assert plan["commands"][0].startswith(f"plr-edge run {bundle_path}")


@pytest.mark.slow
def test_plan_measures_this_machine(plr_edge, bundle_path):
    """Nothing given: precisions are exported and profiled here, then the best ones."""
    result = plr_edge("plan", str(bundle_path), "--finalists", "1", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["recommended"]["measured"] and plan["recommended"]["frame_ms"] > 0
    assert {row["precision"] for row in plan["candidates"]} == {"fp32", "int8"}
    measured = [row for row in plan["candidates"] if row["measured"]]
    assert len(measured) == len(plan["profile"]["bundles"]) >= 2
