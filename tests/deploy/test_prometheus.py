"""Alerts and dashboard of deploy/prometheus: valid, right on examples, of metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.serve import metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES, DASHBOARD = FOLDER / "plr-edge.rules.yml", FOLDER / "grafana-dashboard.json"
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count"),
             "counter": ("_total",), "gauge": ("",)}  # fmt: skip


@pytest.fixture(scope="module")
def exposed(bundle_path, tmp_path_factory):
    """The names of all samples that a robot can expose, measured here or not."""
    model = OnlineModel(
        open_bundle(bundle_path), tmp_path_factory.mktemp("metrics") / "s", LearningConfig()
    )
    robot = Robot(model, Governor(Budget(deadline_ms=33), model.schedule, [0.01] * 5))
    counts = [metrics.HttpCounts()] if hasattr(metrics, "HttpCounts") else []
    collector = metrics.RobotCollector(robot, *counts)
    parts = [getattr(collector, name) for name in dir(collector)
             if re.fullmatch(r"_[a-z]+", name) and callable(getattr(collector, name))]  # fmt: skip
    families = [family for part in parts for family in part()]
    model.close()
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def names_in(expressions):
    text = " ".join(re.sub(r'"[^"]*"', '""', one) for one in expressions)
    return set(re.findall(r"\b(?:plr_edge|process)_[a-z_0-9]+", text))


def expressions_of_rules():
    return re.findall(r"^\s*expr: (.*)$", RULES.read_text(), re.M)


def expressions_of_panels():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("what", [expressions_of_rules, expressions_of_panels])
def test_every_metric_exists(what, exposed):
    names = names_in(what())
    assert len(names) > 10
    assert not names - exposed


def run(tool, *arguments):
    return subprocess.run(
        [tool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120
    )


def test_the_alerts_are_right_on_examples(tool):
    done = run(tool("promtool"), "check", "rules", RULES.name)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(tool("promtool"), "test", "rules", "plr-edge.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_would_show_a_wrong_alert(tool, tmp_path):
    for file in FOLDER.glob("plr-edge.rules*.yml"):
        shutil.copy(file, tmp_path)
    wrong = RULES.read_text().replace("frame_age_seconds > 30", "frame_age_seconds > 300")
    assert wrong != RULES.read_text()
    (tmp_path / RULES.name).write_text(wrong)
    done = subprocess.run([tool("promtool"), "test", "rules", "plr-edge.rules.test.yml"],
                          cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
    assert done.returncode != 0 and "PlrEdgeBlind" in done.stdout + done.stderr


def test_every_alert_that_calls_somebody_at_once_has_an_example():
    alerts = re.split(r"^\s*- alert: ", RULES.read_text(), flags=re.M)[1:]
    pages = {alert.split("\n")[0] for alert in alerts if "severity: page" in alert}
    examples = (FOLDER / "plr-edge.rules.test.yml").read_text()
    assert pages and all(f"alertname: {name}" in examples for name in pages)


def test_the_example_configurations_are_valid(tool):
    done = run(tool("promtool"), "check", "config", "--syntax-only", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(tool("amtool"), "check-config", "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_of_the_dashboard_do_not_overlap():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
