import base64
import io
import json
import threading
import time

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import ConfigError
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.robot.status import STATES
from plr_edge.serve.address import is_loopback, parse_listen
from plr_edge.serve.api import make_app
from plr_edge.serve.tokens import open_token

TOKEN = "secret-token"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def robot(bundle_path, tmp_path_factory):
    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, tmp_path_factory.mktemp("live") / "s", LearningConfig())
    made = Robot(model, Governor(Budget(), model.schedule, [0.01] * len(bundle.levels)))
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(20)
    model.close()


@pytest.fixture(scope="module")
def client(robot):
    return TestClient(make_app(robot, TOKEN))


@pytest.fixture(scope="module")
def pictures(demo_frames):
    made = {}
    for frame in demo_frames:
        stream = io.BytesIO()
        Image.fromarray(frame.image).save(stream, "PNG")
        made.setdefault(frame.label, []).append(base64.b64encode(stream.getvalue()).decode())
    return made


def test_teach_predict_and_undo(client, robot, pictures):
    first, second = list(pictures)[:2]
    for name in (first, second):
        body = {"label": name, "images": pictures[name][:8]}
        answer = client.post("/teach", json=body, headers=ADMIN)
        assert answer.status_code == 200 and answer.json()["taught"] == 8
    answer = client.post("/predict", json={"images": pictures[second][8:]}).json()
    assert [a["top"][0][0] for a in answer].count(second) >= 3
    assert {c["name"] for c in client.get("/classes").json()} == {first, second}
    assert client.get("/thumbnails/0.jpg").content.startswith(b"\xff\xd8")
    answer = client.post("/undo", json={"name": second}, headers=ADMIN)
    assert answer.json() == {"undone": 8}
    assert client.post("/undo", json={"name": second}, headers=ADMIN).status_code == 422
    assert client.post("/undo", json={}, headers=ADMIN).status_code == 422
    for wrong in ({"seqs": []}, {"since_s": -1}, {"last": 0}, {"all": True}):
        assert client.post("/undo", json=wrong, headers=ADMIN).status_code == 422
    answer = client.post("/undo", json={"seqs": [1, 2, 3], "last": 2}, headers=ADMIN)
    assert answer.json() == {"undone": 2}


def test_a_name_that_looks_like_a_known_class_is_refused_until_it_is_meant(client, pictures):
    images = next(iter(pictures.values()))[:1]

    def teach(label, **fields):
        body = {"label": label, "images": images, **fields}
        return client.post("/teach", json=body, headers=ADMIN)

    assert teach("cup").status_code == 200
    for label in ("Cup", "\uff43up", "c\u200bup", "\u0441up"):
        refused = teach(label)
        assert refused.status_code == 422, label
    assert "known class 'cup'" in refused.json()["detail"]
    assert teach("Cup", new_class=True).json()["label"] == "Cup"
    for label in ("cup", "Cup"):
        client.post("/undo", json={"name": label}, headers=ADMIN)


@pytest.mark.parametrize(
    "path",
    ["/teach", "/undo", "/rollback", "/pause", "/resume", "/consolidate", "/consolidate/stop"],
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_what_changes_something_needs_the_token(client, path, headers):
    body = {"label": "x", "last": 1}
    assert client.post(path, json=body, headers=headers).status_code == 401


def test_pause_and_resume_are_seen_in_health_and_metrics(client):
    assert client.post("/pause", headers=ADMIN).json()["state"] == "paused"
    assert 'plr_edge_state{state="paused"} 1' in client.get("/metrics").text
    assert client.post("/resume", headers=ADMIN).json()["state"] in STATES
    health = client.get("/health").json()
    assert health["power_w"] is None or health["power_w"] > 0
    assert "plr_edge_power_watts" in client.get("/metrics").text or health["power_w"] is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [({"budget": "soon"}, "write a time like 90s"), ({"budget": "-5min"}, "write a time like 90s"),
     ({"budget": 300}, "budget: "), ({"seconds": 3}, "seconds: "), ({"budget": "5min"}, "")],
)  # fmt: skip
def test_what_cannot_be_consolidated_is_refused_with_the_reason(client, body, reason):
    refused = client.post("/consolidate", json=body, headers=ADMIN)
    assert refused.status_code == 422 and reason in refused.json()["detail"]
    stop = client.post("/consolidate/stop", headers=ADMIN)
    assert stop.status_code == 422 and "nothing is being" in stop.json()["detail"]
    facts = client.get("/health").json()
    assert facts["consolidation"]["now"] is None and len(facts["levels"]) == 5


BAD_BODIES = {
    "no JSON": b"label=x",
    "NaN": b'{"label": "a", "last": NaN}',
    "key twice": b'{"label": "a", "label": "b"}',
    "deep": b"[" * 5000 + b"]" * 5000,
    "deep and right": b'{"label": ' + b"[" * 20 + b"]" * 20 + b"}",
    "another type": b'{"label": 7}',
    "unknown field": b'{"label": "a", "path": "/etc/passwd"}',
    "a number as text": b'{"label": "a", "last": "1"}',
    "too many frames": b'{"label": "a", "last": 1000}',
    "slash": b'{"label": "a/b", "last": 1}',
    "no base64": b'{"label": "a", "images": ["???"]}',
    "no image": b'{"label": "a", "images": ["aGFsbG8="]}',
    "bad key": b'{"label": "a", "key": "../x"}',
    "huge stamp": b'{"label": "a", "stamp_ns": 99999999999999999999999}',
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_are_refused_and_nothing_is_taught(client, robot, name):
    before = robot.model.store.last_seq
    headers = {**ADMIN, "Content-Type": "application/json"}
    answer = client.post("/teach", content=BAD_BODIES[name], headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert "Traceback" not in answer.text and "/work" not in answer.text
    assert robot.model.store.last_seq == before


def test_large_and_encoded_bodies_are_refused_before_they_are_parsed(client):
    large = b'{"label": "' + b"a" * (9 << 20) + b'"}'
    assert client.post("/teach", content=large, headers=ADMIN).status_code == 413
    headers = {**ADMIN, "Content-Encoding": "gzip"}
    assert client.post("/teach", content=b"\x1f\x8b", headers=headers).status_code == 415


def test_the_page_is_one_file_without_network(client):
    page = client.get("/").text
    assert "teach this" in page
    assert "http://" not in page and "https://" not in page and 'src="/' not in page


def test_events_tell_what_is_taught(robot, pictures):
    import asyncio

    from plr_edge.serve.events import event_stream

    async def until_taught():
        stream = event_stream(robot)
        task = asyncio.ensure_future(stream.__anext__())
        while not robot.listeners:
            await asyncio.sleep(0.01)
        robot.call(lambda: robot.emit("taught", {"label": "x"}))
        texts = [await asyncio.wait_for(task, 5)]
        while "event: taught" not in texts[-1]:  # the robot tells its status every second
            texts.append(await asyncio.wait_for(stream.__anext__(), 5))
        await stream.aclose()
        return texts

    assert asyncio.run(until_taught())[-1] == 'event: taught\ndata: {"label": "x"}\n\n'
    assert robot.listeners == []


def test_addresses_are_checked_and_a_token_is_made_once(tmp_path):
    assert parse_listen("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_listen("[::1]:80") == ("::1", 80) and parse_listen("unix:/a/b") == "/a/b"
    assert is_loopback("unix:/tmp/x") and is_loopback("[::1]:80") and not is_loopback("0.0.0.0:80")
    for wrong in ("80", "host:", "host:x", "host:99999", "unix:"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            parse_listen(wrong)
    assert open_token(tmp_path) == open_token(tmp_path)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_flood_of_teaching_is_answered_and_loses_nothing(client, robot, pictures):
    images = next(iter(pictures.values()))[:1]
    answers = []

    def flood(i):
        body = {"label": "flood", "images": images, "key": f"f{i}"}
        answers.append(client.post("/teach", json=body, headers=ADMIN))

    before = robot.model.store.last_seq
    threads = [threading.Thread(target=flood, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = [a.status_code for a in answers]
    assert set(codes) <= {200, 503}
    assert robot.model.store.last_seq == before + codes.count(200)
    assert json.loads(client.get("/health").text)["state"] in STATES
    time.sleep(0)
