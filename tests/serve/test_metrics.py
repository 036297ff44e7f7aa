"""The exposition, read by a parser that is not ours."""

import math
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import parser

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Decision, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.robot.sensors import Sensed
from plr_edge.robot.status import STATES
from plr_edge.serve.metrics import build_labels, metrics_text


@pytest.fixture(scope="module")
def robot(bundle_path, tmp_path_factory):
    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, tmp_path_factory.mktemp("metrics") / "s", LearningConfig())
    made = Robot(model, Governor(Budget(deadline_ms=33), model.schedule, [0.01] * 5))
    yield made
    model.close()


def read(robot):
    families = list(parser.text_string_to_metric_families(metrics_text(robot)))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_was_not_measured_is_absent(robot):
    figures = read(robot)
    names = {name for name, *_ in figures}
    assert "plr_edge_power_watts" not in names and "plr_edge_replay_items" not in names
    assert "plr_edge_unknown_ratio" not in names
    assert figures[("plr_edge_build_info", *sorted(build_labels(robot).values()))] == 1
    assert figures["plr_edge_state", "starting"] == 1
    assert sum(figures["plr_edge_state", state] for state in STATES) == 1


def test_every_figure_has_its_name_unit_and_value(robot, demo_frames):
    for i, frame in enumerate(demo_frames[:20]):
        robot.put(frame)
        if i % 4:
            robot._take_frame(robot._newest)
            robot._newest = None
    robot._tick()
    robot.sensors.now = Sensed(
        power_w=7.5, rails_w={"total": 7.5, 'a "b"\\\n': 2.5}, temps_c={"cpu": 51.5},
        memory_bytes={"rss": 100, "pss": 90},
    )  # fmt: skip
    robot.sensors.rails_j = {"total": 70.0}
    robot.model.trainer.n_steps, robot.model.trainer.steps_s = (
        [1, 2, 3, 4, 5],
        [0.1, 0.2, 0.3, 0.4, 0.5],
    )
    robot.model.trainer.report = {"latents": 12, "latents_bytes": 8000, "rss_bytes": 300}
    figures = read(robot)
    expected = {
        ("frames_total", "stream", "unknown"): 15,  # nothing was taught
        ("frames_total", "dropped", "stream"): 5,
        ("inference_seconds_count",): 15,
        ("inference_seconds_bucket", "+Inf"): 15,
        ("power_watts", "total"): 7.5,
        ("power_watts", 'a "b"\\\n'): 2.5,
        ("energy_joules_total", "total"): 70.0,
        ("temperature_celsius", "cpu"): 51.5,
        ("memory_bytes", "pss"): 90,
        ("memory_bytes", "trainer_rss"): 300,
        ("replay_items",): 12,
        ("replay_bytes",): 8000,
        ("train_steps_total", "3"): 3,
        ("train_step_seconds_sum", "5"): 0.5,
        ("train_step_seconds_count", "5"): 5,
        ("governor_share", "5"): robot.governor_loop.decision.shares[-1],
        ("governor_steps_per_second",): robot.governor_loop.decision.steps_per_s,
        ("unknown_ratio",): 1.0,
        ("frames_late_total",): robot.stats.n_late,
        ("version",): 0,
    }
    for (name, *labels), value in expected.items():
        assert figures[(f"plr_edge_{name}", *sorted(labels))] == value, name
    bounds = [float(key[1]) for key in figures if key[0] == "plr_edge_inference_seconds_bucket"]
    assert bounds == sorted(bounds) and math.isinf(bounds[-1])
    total_s = figures["plr_edge_inference_seconds_sum",]
    assert total_s == pytest.approx(robot.stats.latency_sum_s) and total_s > 0


def test_no_class_path_or_token_appears_and_the_number_of_series_is_bounded(robot, demo_frames):
    taught = robot.requests.teach("a class with a name", images=[demo_frames[0].image])
    while not taught.done():
        robot.model.poll()
    text = metrics_text(robot)
    for secret in ("a class with", str(robot.model.store.path), str(robot.model.bundle.path)):
        assert secret not in text
    names = [line.split("{")[0] for line in text.splitlines() if not line.startswith("#")]
    assert max(names.count(name) for name in names) <= 64


def test_names_types_labels_and_values_are_those_of_the_first_release(bundle_path, tmp_path):
    """`golden/metrics.txt` is what 0.1.0 answered in this state; dashboards were built on it."""
    model = OnlineModel(open_bundle(bundle_path), tmp_path / "s", LearningConfig())
    robot = Robot(model, Governor(Budget(deadline_ms=33), model.schedule, [0.01] * 5))
    robot.began_ns = 1_500_000_000 * 10**9  # this family and `plr_edge_labels` came later
    robot.state, robot.stats.n_late, robot.stats.latency_sum_s = "serving", 3, 1.25
    robot.stats.by = Counter({("camera", "answered"): 1_234_567, ("api", "unknown"): 2})
    robot.stats.in_bounds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    robot.sensors.now = Sensed(
        power_w=7.5, rails_w={"total": 7.5, 'a "b"\\\n': 2.5}, temps_c={"cpu": 51.5, "gpu": 1e-7},
        memory_bytes={"rss": 123_456_789, "pss": 90},
    )  # fmt: skip
    robot.sensors.rails_j = {"total": 70.25, "VDD_IN": 2.5e9}
    model.trainer.n_steps, model.trainer.steps_s = [1, 2, 3, 4, 5], [0.1, 0.2, 0.3, 0.4, 0.5]
    model.trainer.report = {"latents": 12, "latents_bytes": 8_000_000, "rss_bytes": None}
    robot.governor_loop.frames_per_s, robot.governor_loop.state_bytes = 29.97, 40_960
    robot.governor_loop.written_bytes = 2**40 + 1
    robot.governor_loop.decision = Decision(
        steps_per_s=12.5, shares=(0.1, 0.2, 0.3, 0.25, 0.15), reason="within every budget"
    )
    text = metrics_text(robot)
    model.close()
    golden = (Path(__file__).parent / "golden" / "metrics.txt").read_text()
    golden = golden.replace("PYTHON", platform.python_version())
    golden = golden.replace("VERSION", version("plr-edge"))

    def families(exposition):
        return {
            family.name: (family.type, sorted(
                (s.name, sorted(s.labels.items()), s.value) for s in family.samples
            ))
            for family in parser.text_string_to_metric_families(exposition)
        }  # fmt: skip

    assert families(text) == families(golden)

    def types(exposition):
        return sorted(line for line in exposition.splitlines() if line.startswith("# TYPE"))

    assert types(text) == types(golden)  # which the parser shortens
