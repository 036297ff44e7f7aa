"""Commands that look into a state, or correct it, while a robot uses it; and cameras' passwords."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("fastapi")

from PIL import Image

from plr_edge.cli.sources import read_source
from plr_edge.errors import ConfigError


@pytest.fixture(scope="module")
def robot(bundle_path, tmp_path_factory, demo_frames):
    folder = tmp_path_factory.mktemp("operator")
    for i, frame in enumerate(demo_frames[:24]):
        Image.fromarray(frame.image).save(folder / f"{i}.png")
    state = folder / "s"
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "none", "--state", str(state),
         "--listen", "0.0.0.0:0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any("sha256" in line for line in process.stderr)
    threading.Thread(target=lambda: list(process.stderr), daemon=True).start()
    yield folder, state, process
    process.terminate()
    assert process.wait(60) == 0


def test_an_operator_looks_and_corrects_without_stopping_the_robot(robot, bundle_path, plr_edge):
    folder, state, process = robot

    def ask(*arguments):
        done = plr_edge(*map(str, arguments))
        assert done.exit_code == 0, done.output
        return done.stdout

    images = [folder / f"{i}.png" for i in range(24)]
    assert "a: 4 taught" in ask("teach", "a", *images[:4], "--state", state)
    assert "b: 4 taught" in ask("teach", "b", *images[12:16], "--state", state)
    assert "2 quarantined" in ask("teach", "b", *images[:2], "--state", state)
    logged = [json.loads(line) for line in ask("log", state, "--json").splitlines()]
    assert [x["class"] for x in logged if "class" in x] == ["a"] * 4 + ["b"] * 6
    assert "2 quarantined" in ask("quarantine", state)
    number = ask("quarantine", state).split()[0]
    assert "1 dropped" in ask("quarantine", state, "--drop", number)
    assert "1 confirmed" in ask("quarantine", state, "--confirm", "all")
    facts = json.loads(ask("inspect", state, "--json"))
    assert facts["whole"] and facts["n_quarantined"] == 0 and facts["n_taught"] == 9
    assert "nothing was changed" in ask("repair", state)
    assert "2 labels undone" in ask("undo", bundle_path, "--state", state, "--last", 2)
    assert (
        "no such label"
        in plr_edge("undo", str(bundle_path), "--state", str(state), "--after", "999").stderr
    )
    assert "4 labels" in ask("forget", bundle_path, "a", "--state", state)
    health = json.loads(ask("status", "--state", state, "--json"))
    assert health["classes"] == 1 and process.poll() is None
    refused = plr_edge("rollback", str(state))
    assert refused.exit_code == 2 and "no generation older" in refused.stderr


def test_the_address_of_a_robot_that_ended_is_not_asked(tmp_path, plr_edge, robot):
    _, state, _ = robot
    copy = tmp_path / "s"
    copy.mkdir(mode=0o700)
    facts = json.loads((state / "serving.json").read_text())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (copy / "serving.json").write_text(json.dumps({**facts, "pid": dead.pid}))
    refused = plr_edge("log", str(copy))
    assert refused.exit_code == 2 and "holds no state" in refused.stderr
    (copy / "serving.json").write_text("damaged")
    assert "holds no state" in plr_edge("log", str(copy)).stderr


@pytest.mark.parametrize(
    "source",
    ["rtsp://admin:hunter2@10.0.0.9/stream", "http://u:hunter2@cam/x.mjpg",
     "http://cam/x.mjpg?user=u&password=hunter2", "rtspsrc location=x user-pw=hunter2 ! appsink",
     "rtsps://hunter2@cam/1"],
)  # fmt: skip
def test_a_password_on_the_command_line_is_refused_and_not_repeated(source, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="env:NAME") as error:
        read_source(source)
    assert "hunter2" not in str(error.value)
    monkeypatch.setenv("CAMERA", source)
    assert read_source("env:CAMERA") == source
    file = tmp_path / "camera"
    file.write_text(f"{source}\n")
    file.chmod(0o600)
    assert read_source(f"file:{file}") == source


def test_a_source_that_is_hidden_badly_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("CAMERA", raising=False)
    with pytest.raises(ConfigError, match="0 lines"):
        read_source("env:CAMERA")
    file = tmp_path / "camera"
    for text, mode, said in (("x", 0o644, "read by others"), ("", 0o600, "0 lines"),
                             ("a\nb", 0o600, "2 lines")):  # fmt: skip
        file.write_text(text)
        file.chmod(mode)
        with pytest.raises(ConfigError, match=said):
            read_source(f"file:{file}")
    with pytest.raises(ConfigError, match="cannot read"):
        read_source(f"file:{tmp_path / 'none'}")
    for plain in ("0", "none", "/dev/video0", "rtsp://cam/1", "film.mp4", "envelope", "a:b.mp4"):
        assert read_source(plain) == plain


def test_the_password_of_a_camera_leaves_the_process_nowhere(bundle_path, tmp_path, plr_edge):
    pytest.importorskip("cv2")
    state = tmp_path / "s"
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), "env:CAMERA", "--state",
         str(state), "--listen", f"unix:{tmp_path / 'x'}"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "CAMERA": "rtsp://admin:hunter2@127.0.0.1:9/stream"},
    )  # fmt: skip
    end = time.monotonic() + 90
    while not (state / "serving.json").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.2)
    health = json.loads(plr_edge("status", "--state", str(state), "--json").stdout)
    while health["state"] == "starting":
        health = json.loads(plr_edge("status", "--state", str(state), "--json").stdout)
    assert "127.0.0.1:9" in health["reason"] and "hunter2" not in json.dumps(health)
    with open(f"/proc/{process.pid}/cmdline") as file:
        assert "hunter2" not in file.read()
    process.terminate()
    said = "".join(process.communicate(timeout=60))
    assert "hunter2" not in said and "127.0.0.1:9" in said
    assert not [f for f in state.rglob("*") if f.is_file() and b"hunter2" in f.read_bytes()]
