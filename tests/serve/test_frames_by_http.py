"""`plr-edge run BUNDLE none`: images to predict are the frames of the robot."""

import asyncio
import json

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.robot.recent_frames import NoveltyDetector
from plr_edge.serve.api import make_app
from tests.serve.robots import ADMIN, TOKEN, in_base64, running


@pytest.fixture
def robot(bundle_path, tmp_path):
    with running(bundle_path, tmp_path / "s", deadline_ms=0.001) as made:
        made.requests.are_frames = True
        yield made


@pytest.fixture
def client(robot):
    return TestClient(make_app(robot, TOKEN))


def predict(client, frames):
    answered = client.post("/predict", json={"images": [in_base64(f.image) for f in frames]})
    assert answered.status_code == 200, answered.text
    return answered.json()


def teach(client, label, **which):
    return client.post("/teach", json={"label": label, **which}, headers=ADMIN)


def test_images_can_be_taught_by_stamp_sequence_and_last(client, robot, demo_frames):
    names = list(dict.fromkeys(f.label for f in demo_frames))[:3]
    own = [[f for f in demo_frames if f.label == name][:4] for name in names]
    first = predict(client, own[0])
    assert [x["sequence"] for x in first] == [1, 2, 3, 4]
    assert len({x["stamp_ns"] for x in first}) == 4
    assert teach(client, names[0], last=4).json()["taught"] == 4
    second = predict(client, own[1])
    for each in second[:2]:
        assert teach(client, names[1], stamp_ns=each["stamp_ns"]).json()["taught"] == 1
    third = predict(client, own[2])
    for each in third[1:3]:
        assert teach(client, names[2], sequence=each["sequence"]).json()["taught"] == 1
    assert {c["name"]: c["taught"] for c in client.get("/classes").json()} == {
        names[0]: 4, names[1]: 2, names[2]: 2,
    }  # fmt: skip
    assert "no such frame" in teach(client, "x", stamp_ns=1).json()["detail"]
    assert "no such frame" in teach(client, "x", sequence=999).json()["detail"]


def test_they_count_in_latency_deadline_unknowns_drift_and_age(client, robot, demo_frames):
    predict(client, demo_frames[:20])
    health = client.get("/health").json()
    assert health["frames"] == 20 and health["late"] == 20 and health["unknown"] == 20
    assert health["latency_ms_p99"] > 0 and health["unknown_ratio"] == 1.0
    assert 0 <= health["frame_age_s"] < 60
    text = client.get("/metrics").text
    assert 'plr_edge_frames_total{outcome="unknown",source="http"} 20.0' in text
    assert "plr_edge_inference_seconds_count 20.0" in text
    assert "plr_edge_frames_late_total 20.0" in text
    robot.call(robot.governor_loop.tick, changes=False).result(10)
    assert robot.governor_loop.frames_per_s > 0  # so that pressure is looked at


def test_they_are_shown_and_a_run_of_unknown_ones_is_asked_about(client, robot, demo_frames):
    heard = []
    robot.listeners.append(lambda kind, data: heard.append((kind, data)))
    same = [demo_frames[0]] * NoveltyDetector.RUN
    assert client.get("/frame.jpg").status_code == 404
    predict(client, same)
    assert client.get("/frame.jpg").content.startswith(b"\xff\xd8")
    (asked,) = client.get("/health").json()["asked"]
    assert client.get(f"/asked/{asked}.jpg").status_code == 200
    kinds = [kind for kind, _ in heard]
    assert kinds.count("prediction") == len(same) and "what is this" in kinds
    assert teach(client, "thing", sequence=asked).json()["taught"] == NoveltyDetector.RUN


def test_beside_a_camera_an_image_is_a_question_and_no_frame(client, robot, demo_frames):
    robot.requests.are_frames = False
    answers = predict(client, demo_frames[:3])
    assert all("sequence" not in x for x in answers)
    health = client.get("/health").json()
    assert health["frames"] == 0 and health["asked"] == []
    assert teach(client, "x", last=1).status_code == 422


def test_events_say_how_predictions_are_thinned_and_what_happens(client, robot, demo_frames):
    """Through the stream as it is sent: the greeting, then what happens to the robot."""
    from plr_edge.serve.events import EVERY_FRAME, EventStreams

    async def heard():
        stream, found = EventStreams(robot).open(), {}
        first = await stream.__anext__()
        assert f'"predictions_every": {EVERY_FRAME}' in first and first.startswith("retry: ")

        async def act():
            await asyncio.to_thread(predict, client, demo_frames[:6])
            await asyncio.to_thread(teach, client, "a", last=3)
            robot.model.note("published", "version 1: better", version=1)
            robot.model.note("dropped", "worse")
            robot.model.note("trainer", "died, for the 1. time", deaths=1)
            undo = {"json": {"last": 1}, "headers": ADMIN}
            await asyncio.to_thread(lambda: client.post("/undo", **undo))

        acting = asyncio.ensure_future(act())
        wanted = {
            "prediction", "taught", "published", "dropped", "trainer", "undone", "status", "budget",
        }  # fmt: skip
        while not wanted <= found.keys():
            text = await asyncio.wait_for(stream.__anext__(), 30)
            if text.startswith("event: "):
                kind, data = text[7:].split("\n")[:2]
                found.setdefault(kind, []).append(json.loads(data.removeprefix("data: ")))
        await acting
        await stream.aclose()
        return found

    found = asyncio.run(heard())
    assert [x["sequence"] for x in found["prediction"]] == [3, 6]
    assert found["published"] == [{"text": "version 1: better", "version": 1}]
    assert found["trainer"][0]["deaths"] == 1 and "energy_j" in found["status"][0]
    assert {"steps_per_s", "shares", "reason", "text"} <= found["budget"][0].keys()
    assert robot.listeners == []


def test_a_silent_listener_keeps_nobody_out_for_ever(robot, monkeypatch):
    from plr_edge.serve import events

    async def run():
        streams = events.EventStreams(robot)
        silent = [streams.open() for _ in range(events.MAX_LISTENERS)]
        for each in silent:
            assert "hello" in await each.__anext__()
        assert streams.open() is None
        watched = streams.open("viewer")  # has places of its own
        assert "hello" in await watched.__anext__()
        monkeypatch.setattr(events, "_SAFE_S", 0.0)
        operator = streams.open()
        assert "hello" in await operator.__anext__()
        assert "connect again" in await asyncio.wait_for(silent[0].__anext__(), 10)
        for each in (watched, operator, *silent):
            await each.aclose()
        assert streams._places == {True: [], False: []}

    asyncio.run(run())
