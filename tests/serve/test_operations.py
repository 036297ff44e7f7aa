"""Honest requests: a key acts once, a slow change can be asked about, nothing is done unsaid."""

import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.robot.operations import MAX_RUNNING, Operations, TooManyError
from plr_edge.serve import posts
from plr_edge.serve.api import make_app
from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Store
from tests.serve.robots import ADMIN, TOKEN, in_base64, running


@pytest.fixture
def client(robot):
    return TestClient(make_app(robot, TOKEN))


def post(client, path, body=None, status=200):
    answered = client.post(path, json={} if body is None else body, headers=ADMIN)
    assert answered.status_code == status, answered.text
    return answered.json()


def teach(client, frames, label=None, **more):
    body = {"label": label or frames[0].label, "images": [in_base64(f.image) for f in frames]}
    return post(client, "/teach", {**body, **more})


def test_an_undo_with_a_key_undoes_once_even_after_a_restart(bundle_path, tmp_path, demo_frames):
    for turn in range(2):
        with running(bundle_path, tmp_path / "s") as robot:
            client = TestClient(make_app(robot, TOKEN))
            if turn == 0:
                teach(client, demo_frames[:6], "a")
                assert post(client, "/undo", {"last": 2, "key": "u1"}) == {"undone": 2}
            again = post(client, "/undo", {"last": 2, "key": "u1"})
            assert again == {"undone": 2, "repeated": True}
            assert client.get("/classes").json() == [{"name": "a", "taught": 4}]
            assert post(client, "/undo", {"last": 3, "key": "u1"}, 409)["detail"]
            assert post(client, "/rollback", {"key": "u1"}, 409)["detail"]


def test_after_a_number_names_the_same_labels_however_often_it_is_asked(client, demo_frames):
    first = teach(client, demo_frames[:3], "a")
    teach(client, demo_frames[3:6], "a")
    last = first["first"] + first["taught"] - 1
    assert post(client, "/undo", {"after": last}) == {"undone": 3}
    assert "no such label" in post(client, "/undo", {"after": last}, 422)["detail"]
    assert client.get("/classes").json() == [{"name": "a", "taught": 3}]


def test_a_key_that_comes_with_another_request_is_refused(client, demo_frames):
    teach(client, demo_frames[:1], "a", key="k")
    other = {"label": "b", "images": [in_base64(demo_frames[20].image)], "key": "k"}
    assert "another request" in post(client, "/teach", other, 409)["detail"]
    assert [c["name"] for c in client.get("/classes").json()] == ["a"]


def test_a_repeated_key_says_what_became_of_its_labels(client, demo_frames):
    taught = teach(client, demo_frames[:3], "a", key="k")
    assert teach(client, demo_frames[:3], "a", key="k") == {**taught, "repeated": True, "undone": 0}
    post(client, "/undo", {"last": 2})
    assert teach(client, demo_frames[:3], "a", key="k") == {**taught, "repeated": True, "undone": 2}
    post(client, "/undo", {"name": "a"})
    assert teach(client, demo_frames[:3], "a", key="k")["undone"] == 3
    assert client.get("/classes").json() == []


def test_a_request_that_was_refused_may_come_again_with_its_key(client, demo_frames):
    post(client, "/undo", {"last": 1, "key": "early"}, 422)
    teach(client, demo_frames[:1], "a")
    assert post(client, "/undo", {"last": 1, "key": "early"}) == {"undone": 1}


@pytest.mark.parametrize("path", ["/undo", "/rollback", "/forget", "/teach"])
def test_what_takes_longer_is_answered_with_an_operation(
    client, robot, demo_frames, monkeypatch, path
):
    teach(client, demo_frames[:3], "a")
    robot.call(robot.requests.save).result(30)
    teach(client, demo_frames[12:15], "b")
    robot.call(robot.requests.save).result(30)
    real, wait = robot.model.workers.settle, threading.Event()
    monkeypatch.setattr(posts, "_ANSWER_S", 0.2)
    blocking = robot.model.workers.disk.submit(wait.wait, 30)  # a slow disk
    assert real is not None
    bodies = {
        "/undo": {"last": 1}, "/rollback": {}, "/forget": {"name": "a"},
        "/teach": {"label": "c", "images": [in_base64(demo_frames[30].image)]},
    }  # fmt: skip
    body = {**bodies[path], "key": "slow"}
    if path == "/rollback" and len(robot.model.store.generations) < 2:
        wait.set()
        pytest.skip("nothing was trained, so that there is one generation")
    later = client.post(path, json=body, headers=ADMIN)
    facts = later.json()
    assert later.status_code == 202 and facts["state"] == "running"
    assert later.headers["location"] == f"/operations/{facts['operation']}"
    same = client.post(path, json=body, headers=ADMIN).json()
    assert same["operation"] == facts["operation"]
    wait.set()
    blocking.result(30)
    end = time.monotonic() + 30
    while facts["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
        facts = client.get(later.headers["location"], headers=ADMIN).json()
    assert facts["state"] == "done", facts
    again = client.post(path, json=body, headers=ADMIN).json()
    assert again["repeated"] and {**facts["answer"], **again} == again
    assert client.get("/operations/none", headers=ADMIN).status_code == 404
    assert client.get(later.headers["location"]).status_code == 401


def test_every_change_takes_a_key(client):
    for path in ("/save", "/pause", "/resume", "/rollback"):
        answered = client.post(path, json={"key": "k" + path[1:]}, headers=ADMIN)
        assert answered.status_code in (200, 422), answered.text
        assert client.post(path, json={"key": "../x"}, headers=ADMIN).status_code == 422
        assert client.post(path, headers=ADMIN).status_code in (200, 422)


def test_too_many_changes_at_once_are_refused_before_anything_is_done():
    from concurrent.futures import Future

    called = []

    def call(act):
        called.append(act)
        return Future()

    operations = Operations(call)
    for _ in range(MAX_RUNNING):
        operations.begin("undo", lambda: None)
    with pytest.raises(TooManyError, match="nothing was done"):
        operations.begin("undo", lambda: None)
    assert len(called) == MAX_RUNNING


def test_the_end_does_not_wait_for_what_is_learned_again(bundle_path, tmp_path, demo_frames):
    with running(bundle_path, tmp_path / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        teach(client, demo_frames[:8], "a")
        robot.model.workers.ending = True  # as at the end
        assert post(client, "/undo", {"last": 3}) == {"undone": 3}
        assert not robot.model.is_unsaved  # what it knows is not to be saved any more
    with Store(tmp_path / "s") as store:
        assert [x.status for x in store.labels].count(UNDONE) == 3
    with running(bundle_path, tmp_path / "s") as robot:
        assert robot.requests.classes() == [{"name": "a", "taught": 5}]


def test_the_quarantine_is_reviewed_while_the_robot_runs(client, robot, demo_frames):
    teach(client, demo_frames[:3], "a")
    teach(client, demo_frames[:3], "b", key="twice")  # the same frames under another name
    held = client.get("/quarantine", headers=ADMIN).json()
    assert len(held) == 3 and {x["class"] for x in held} == {"b"}
    health = client.get("/health").json()
    assert health["quarantined"] == 3 and health["taught"] == 3
    seqs = [x["label"] for x in held]
    body = {"confirm": seqs[:1], "drop": seqs[1:2], "key": "q"}
    done = post(client, "/quarantine", body)
    assert done == {"reviewed": 2, "confirmed": 1, "dropped": 1, "evicted": 0}
    assert post(client, "/quarantine", body)["repeated"]
    assert {c["name"]: c["taught"] for c in client.get("/classes").json()} == {"a": 3, "b": 1}
    assert client.get("/health").json()["quarantined"] == 1
    assert "not quarantined" in post(client, "/quarantine", {"drop": [1]}, 422)["detail"]
    assert "give confirm or drop" in post(client, "/quarantine", {}, 422)["detail"]
    post(client, "/quarantine", {"drop": "all"})
    statuses = [x.status for x in robot.model.store.labels]
    assert QUARANTINED not in statuses and statuses.count(LEARNED) == 4


def test_counts_survive_a_restart_and_counters_never_fall(bundle_path, tmp_path, demo_frames):
    def figures(client):
        lines = [x.rsplit(" ", 1) for x in client.get("/metrics").text.splitlines() if x[0] != "#"]
        return {name: float(value) for name, value in lines if name.startswith("plr_edge_labels")}

    with running(bundle_path, tmp_path / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        teach(client, demo_frames[:5], "a")
        teach(client, demo_frames[:2], "b")
        before = figures(client)
        assert before["plr_edge_labels_learned_total"] == 5
        assert before["plr_edge_labels_quarantined_total"] == 2
        post(client, "/undo", {"last": 4})
        after = figures(client)
        assert all(after[name] >= n for name, n in before.items() if name.endswith("_total"))
        assert after['plr_edge_labels{status="learned"}'] == 1
        assert after['plr_edge_labels{status="quarantined"}'] == 2
    with running(bundle_path, tmp_path / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        again = figures(client)
        assert again['plr_edge_labels{status="quarantined"}'] == 2
        assert again['plr_edge_labels{status="learned"}'] == 1
        assert client.get("/health").json()["quarantined"] == 2
        assert "process_start_time_seconds" in client.get("/metrics").text


def test_a_class_is_forgotten_while_the_robot_runs(client, robot, demo_frames):
    teach(client, demo_frames[:3], "a", key="k1")
    teach(client, demo_frames[12:15], "secret person", key="k2")
    assert post(client, "/forget", {"name": "secret person", "key": "f"}) == {"forgotten": 3}
    assert post(client, "/forget", {"name": "secret person", "key": "f"})["repeated"]
    assert post(client, "/forget", {"name": "secret person"}, 422)["detail"]
    assert [c["name"] for c in client.get("/classes").json()] == ["a"]
    assert list(robot.requests.answers) == ["k1", "f"]
    files = [f for f in robot.model.store.path.rglob("*") if f.is_file()]
    assert [f.name for f in files if b"secret person" in f.read_bytes()] == []
    assert "secret person" not in client.get("/log", headers=ADMIN).text
