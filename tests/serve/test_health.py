"""What a monitor sees: the HTTP codes of /health, and the age of the newest frame."""

import json
import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot import feeding
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.serve.api import make_app
from plr_edge.stream.live_source import LiveSource


@pytest.fixture
def robot(bundle_path, tmp_path, monkeypatch):
    monkeypatch.setattr(feeding, "_BLIND_S", 0.7)
    model = OnlineModel(open_bundle(bundle_path), tmp_path / "s", LearningConfig())
    made = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(model.bundle.levels)))
    yield made
    made.stop()
    model.close()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def age(client):
    lines = client.get("/metrics").text.splitlines()
    found = [x for x in lines if x.startswith("plr_edge_frame_age_seconds")]
    return float(found[0].split()[1]) if found else None


def test_health_is_503_where_it_does_not_serve(robot, demo_frames):
    client = TestClient(make_app(robot, "secret-token"))

    def codes():
        return [client.get(f"/health{end}").status_code for end in ("", "/ready", "/live")]

    assert codes() == [503, 503, 200] and client.get("/health").json()["state"] == "starting"
    assert age(client) is None and client.get("/health").json()["frame_age_s"] is None
    loop = threading.Thread(target=robot.run)
    loop.start()
    until(lambda: codes() == [200, 200, 200])
    go_on = threading.Event()

    def frames(_):
        yield demo_frames[0]
        go_on.wait(30)
        while not robot.stopping.wait(0.02):
            yield demo_frames[0]

    robot.feeder.start(lambda stop: LiveSource("camera", "camera 0", frames))
    until(lambda: codes() == [503, 503, 200])  # blind, yet alive
    body = client.get("/health").json()
    assert (body["state"], body["serves"]) == ("degraded", False)
    assert body["frame_age_s"] > 0.5 and "no frames come from the camera 0" in body["reason"]
    assert client.get("/health/ready").json() == {
        "ready": False, "state": "degraded", "reason": body["reason"]
    }  # fmt: skip
    assert age(client) > 0.5
    go_on.set()
    until(lambda: codes() == [200, 200, 200] and age(client) < 0.5)
    robot.troubles["serve"] = "another address cannot be listened on"  # it still answers
    until(lambda: client.get("/health").json()["state"] == "degraded")
    assert codes() == [200, 200, 200]
    hang, hung = threading.Event(), robot.call(lambda: hang.wait(60))
    until(hung.running)
    robot._last_tick -= 20
    assert codes()[2] == 503  # the loop does not turn
    hang.set()
    until(lambda: codes()[2] == 200)
    robot.stop()
    loop.join(20)


@pytest.mark.parametrize("status", [200, 503])
def test_the_command_prints_the_health_of_a_robot_that_does_not_serve(
    status, plr_edge, monkeypatch
):
    facts = {"state": "degraded", "reason": "no frames", "serves": status == 200}

    class Answer:
        def __init__(self):
            self.status = status

        def read(self):
            return json.dumps(facts).encode()

    monkeypatch.setattr("http.client.HTTPConnection.request", lambda *_: None)
    monkeypatch.setattr("http.client.HTTPConnection.getresponse", lambda _: Answer())
    result = plr_edge("status", "--json")
    assert result.exit_code == 0 and json.loads(result.output) == facts
    facts = {"detail": "too many requests at once"}
    if status == 503:
        refused = plr_edge("status")
        assert refused.exit_code == 75 and "too many requests" in refused.output
