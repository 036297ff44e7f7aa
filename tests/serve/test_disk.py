"""A disk that fills up, goes away or comes back: what is acknowledged is kept, and /health says."""

import os
import shutil
import subprocess
import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.robot import recovering
from plr_edge.serve.api import make_app
from plr_edge.store import Store
from tests.serve.robots import ADMIN, TOKEN, in_base64, running

QUIET = "the trainer keeps crashing; answering without learning"  # as it has none


def teach(client, frames, label="a"):
    body = {"label": label, "images": [in_base64(f.image) for f in frames]}
    return client.post("/teach", json=body, headers=ADMIN)


def until(client, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition(facts := client.get("/health").json()):
        assert time.monotonic() < end, facts
        time.sleep(0.05)
    return facts


def moved(state):
    state.rename(state.with_name("elsewhere"))


def deleted(state):
    shutil.rmtree(state)


def database_deleted(state):
    (state / "store.db").unlink()


def log_deleted(state):
    (state / "store.db-wal").unlink()


def replaced_by_a_copy(state):
    shutil.copy(state / "store.db", state / "copy")
    os.replace(state / "copy", state / "store.db")


@pytest.mark.parametrize(
    "harm", [moved, deleted, database_deleted, log_deleted, replaced_by_a_copy]
)
def test_nothing_is_acknowledged_into_files_that_are_gone(bundle_path, tmp_path, demo_frames, harm):
    """SQLite goes on writing to a file that was deleted, and all of it is lost at the end."""
    with running(bundle_path, tmp_path / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        assert teach(client, demo_frames[:3]).status_code == 200
        harm(tmp_path / "s")
        refused = teach(client, demo_frames[3:5])
        assert refused.status_code == 507 and "deleted, moved or replaced" in refused.text
        facts = until(client, lambda facts: "deleted, moved or replaced" in facts["reason"])
        assert facts["state"] == "degraded" and facts["taught"] == 3
        undone = client.post("/undo", json={"last": 1}, headers=ADMIN)
        assert undone.status_code == 507 and "nothing was changed" in undone.text
        image = {"images": [in_base64(demo_frames[0].image)]}
        assert client.post("/predict", json=image).status_code == 200
        assert client.get("/log").status_code in (200, 401)


def test_a_state_that_is_put_back_takes_labels_again(bundle_path, tmp_path, demo_frames):
    state, aside = tmp_path / "s", tmp_path / "aside"
    with running(bundle_path, state) as robot:
        client = TestClient(make_app(robot, TOKEN))
        teach(client, demo_frames[:3])
        state.rename(aside)
        assert teach(client, demo_frames[3:5]).status_code == 507
        aside.rename(state)
        until(client, lambda facts: facts["reason"] == QUIET)  # before anybody teaches
        assert teach(client, demo_frames[5:7]).json()["first"] == 4
    with Store(state) as store:
        assert store.last_seq == 5 and len(store.labels.with_latents(list(store.labels))) == 5


@pytest.fixture
def disk(tmp_path):
    """A disk of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "x", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk):
    with open(disk / "filler", "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass


def test_a_robot_says_that_its_disk_is_full_before_a_label_is_refused(
    bundle_path, disk, demo_frames
):
    with running(bundle_path, disk / "s") as robot:
        assert teach(TestClient(make_app(robot, TOKEN)), demo_frames[:3]).status_code == 200
    fill(disk)
    with running(bundle_path, disk / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        facts = until(client, lambda facts: "is full" in facts["reason"])
        assert facts["state"] == "degraded" and facts["serves"] and facts["taught"] == 3
        (disk / "filler").unlink()
        until(client, lambda facts: facts["reason"] == QUIET)


@pytest.mark.parametrize("first", ["a label", "a moment"])
def test_a_disk_that_was_full_for_a_while_is_no_trouble_any_more(
    bundle_path, disk, demo_frames, first
):
    with running(bundle_path, disk / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        teach(client, demo_frames[:3])
        fill(disk)
        if first == "a label":
            status = 200
            for n in range(60):  # what the log has room for is still taken
                if (status := teach(client, demo_frames[3 + n : 4 + n]).status_code) != 200:
                    break
            assert status == 507
        until(client, lambda facts: "full" in facts["reason"])
        (disk / "filler").unlink()
        until(client, lambda facts: facts["reason"] == QUIET)  # nobody teaches meanwhile
        assert teach(client, demo_frames[70:72]).status_code == 200


def test_a_read_only_disk_is_said_before_anybody_teaches(bundle_path, disk, demo_frames):
    with running(bundle_path, disk / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        teach(client, demo_frames[:3])
        done = subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False)
        if done.returncode:
            pytest.skip("it cannot be remounted while it is in use")
        until(client, lambda facts: "read-only" in facts["reason"])
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        until(client, lambda facts: facts["reason"] == QUIET)


def test_a_start_on_a_read_only_disk_says_that_nothing_can_be_taught(
    bundle_path, disk, demo_frames
):
    with running(bundle_path, disk / "s") as robot:
        teach(TestClient(make_app(robot, TOKEN)), demo_frames[:3])
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with running(bundle_path, disk / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        facts = until(client, lambda facts: "cannot be written" in facts["reason"])
        assert facts["state"] == "degraded" and facts["serves"] and facts["taught"] == 3
        refused = teach(client, demo_frames[3:4])
        assert refused.status_code == 507 and "cannot be written" in refused.text


@pytest.mark.parametrize("kept", [0, 6])
def test_a_start_says_which_labels_do_not_answer_yet(
    bundle_path, tmp_path, demo_frames, monkeypatch, kept
):
    """Labels after the last generation are learned beside the frames, which takes seconds."""
    with running(bundle_path, tmp_path / "s") as robot:
        client = TestClient(make_app(robot, TOKEN))
        for start in (0, 6):
            assert teach(client, demo_frames[start : start + 6], f"c{start}").status_code == 200
            if start + 6 == kept:
                assert client.post("/save", headers=ADMIN).json()["saved"]
    with Store(tmp_path / "s") as store:
        late = [info.number for info in store.generations if info.upto > kept]
        store.generations.discard(late, "test")
    go_on, learn = threading.Event(), recovering.CatchingUp.learn

    def later(self, workers):
        assert go_on.wait(30)
        return learn(self, workers)

    monkeypatch.setattr(recovering, "_SHORT", 3)
    monkeypatch.setattr(recovering.CatchingUp, "learn", later)
    with running(bundle_path, tmp_path / "s", trains=True) as robot:
        client = TestClient(make_app(robot, TOKEN))
        facts = until(client, lambda facts: facts["state"] == "learning")
        assert facts["reason"].startswith(f"{12 - kept} labels are being learned again")
        assert facts["taught"] == kept and facts["serves"] == (kept > 0)
        assert client.get("/health/ready").status_code == (200 if kept else 503)
        go_on.set()
        facts = until(client, lambda facts: facts["state"] == "serving")
        assert facts["taught"] == 12 and facts["reason"] == ""
