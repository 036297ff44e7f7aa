import itertools
import json

import pytest

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.governor_loop import Timeline
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.robot.run_report import write_run_report


@pytest.fixture
def robot(bundle_path, tmp_path):
    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, tmp_path / "s", LearningConfig())
    made = Robot(model, Governor(Budget(duty_share=0.5), model.schedule, [0.01] * 5))
    yield made
    model.close()


def test_a_report_tells_frames_decisions_and_what_was_not_measured(robot, demo_frames, tmp_path):
    for frame in demo_frames[:9]:
        robot._take_frame(frame)
    robot._tick()
    robot.sensors.rails_j.clear()  # whatever this machine measures
    robot.model.store.events.note("published", "version 1: <b>all</b> canaries kept")
    write_run_report(robot, tmp_path / "run.json")
    facts = json.loads((tmp_path / "run.json").read_text())
    assert (facts["frames"], facts["unknown"], facts["energy_j"]) == (9, 9, None)
    assert facts["record"][0]["decision"] == str(robot.governor_loop.decision)
    assert facts["events"][-1][1:] == ["published", "version 1: <b>all</b> canaries kept"]
    write_run_report(robot, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text()
    assert "at a duty of 50%" in page and "absent" in page and "<b>all</b>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_report_that_cannot_be_written_is_named(robot, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        write_run_report(robot, tmp_path / "file" / "run.json")


def test_a_record_of_a_day_is_thinned_out_not_cut_off():
    record = Timeline()
    for second in range(86_400):
        record.add(float(second), {"at_s": float(second)})
    times = [row["at_s"] for row in record.rows]
    assert 300 <= len(times) < 600 and times[0] == 0 and times[-1] > 86_000
    gaps = {b - a for a, b in itertools.pairwise(times)}
    assert max(gaps) <= 2 * min(gaps)
