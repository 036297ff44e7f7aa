"""What passes by itself: exit code 75 where nothing can be done, and else a robot that serves."""

import errno
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from plr_edge.errors import ConfigError, PlrEdgeError, StateError, may_pass
from plr_edge.store import Store, folder


@pytest.mark.parametrize("name", ["ENOSPC", "EADDRINUSE", "EADDRNOTAVAIL", "ETIMEDOUT", "EROFS"])
def test_what_the_system_may_mend_can_pass(name):
    assert may_pass(OSError(getattr(errno, name), "x"))
    assert may_pass(StateError("x", can_pass=True)) and not may_pass(StateError("x"))


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "x"), OSError(errno.ENOTDIR, "x"), KeyError()]
)
def test_what_somebody_must_mend_cannot(error):
    assert not may_pass(error)


def held(path):
    """Hold a state as another process does."""
    path.mkdir(mode=0o700, exist_ok=True)
    return folder.locked(path)


def test_a_state_in_use_is_75(tmp_path, plr_edge):
    with Store(tmp_path / "s"):
        for command in (("log",), ("rollback",), ("repair",)):
            result = plr_edge(*command, str(tmp_path / "s"))
            assert result.exit_code == 75 and "is in use by process" in result.output
            assert result.output.count("\n") == 1


def test_a_state_that_a_backup_reads_is_75(tmp_path, plr_edge, monkeypatch):
    with Store(tmp_path / "s"):
        pass
    reader = sqlite3.connect(tmp_path / "s" / "store.db")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM meta").fetchall()
    result = plr_edge("log", str(tmp_path / "s"))
    assert result.exit_code == 75 and "database is locked" in result.output
    reader.close()


def test_a_robot_that_is_not_up_is_75_and_a_wrong_address_is_2(tmp_path, plr_edge):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    assert plr_edge("status", "--listen", address).exit_code == 75
    assert plr_edge("status", "--listen", "nowhere").exit_code == 2


def test_a_bundle_that_is_not_mounted_yet_is_75_and_a_folder_that_is_none_is_2(tmp_path, plr_edge):
    state = str(tmp_path / "s")
    missing = plr_edge("run", str(tmp_path / "bundle"), "none", "--state", state)
    assert missing.exit_code == 75 and "there is no" in missing.output
    (tmp_path / "bundle").mkdir()
    assert plr_edge("run", str(tmp_path / "bundle"), "none", "--state", state).exit_code == 2


class Robot:
    """`plr-edge run` in a process of its own."""

    def __init__(self, bundle, source, state, listen=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "plr_edge", "run", str(bundle), source, "--state", str(state),
             "--listen", listen or f"127.0.0.1:{self.port}"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self):
        return "".join(self.lines)

    def health(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return 0, {}
        finally:
            connection.close()

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition(*(seen := self.health())):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, seen
            time.sleep(0.1)
        return seen[1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
            self._reader.join(5)
            return code, self.log
        finally:
            self.process.kill()


needs_server = pytest.mark.usefixtures("server")


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("fastapi")
    robots, real = [], Robot.__init__

    def noted(self, *arguments):
        real(self, *arguments)
        robots.append(self)

    monkeypatch.setattr(Robot, "__init__", noted)
    yield
    for robot in robots:
        robot.process.kill()


@needs_server
def test_a_folder_that_is_mounted_later_is_watched_then(bundle_path, tmp_path, demo_frames):
    from PIL import Image

    robot = Robot(bundle_path, str(tmp_path / "in"), tmp_path / "s")
    facts = robot.until(lambda status, facts: status == 503 and facts["state"] == "degraded")
    assert "there is no" in facts["reason"] and not facts["serves"]
    (tmp_path / "in" / "mug").mkdir(parents=True)
    robot.until(lambda status, facts: status == 200)
    Image.fromarray(demo_frames[0].image).save(tmp_path / "in" / "mug" / "1.png")
    robot.until(lambda status, facts: facts["frames"] == 1)
    code, log = robot.stop()
    assert code == 0 and "Traceback" not in log


@needs_server
@pytest.mark.parametrize("by", ["a process that is ending", "a backup"])
def test_a_state_that_is_held_is_taken_when_it_is_free(bundle_path, tmp_path, by):
    state = tmp_path / "s"
    with Store(state):
        pass
    if by == "a backup":
        reader = sqlite3.connect(state / "store.db")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
    else:
        lock = held(state)
    robot = Robot(bundle_path, "none", state)
    facts = robot.until(lambda status, facts: status and facts["state"] == "degraded")
    assert "nothing can be taught" in facts["reason"] and facts["serves"]
    if by == "a backup":
        reader.close()
    else:
        os.close(lock)
    pid = robot.process.pid
    robot.until(lambda status, facts: status == 200 and facts["state"] == "serving")
    assert robot.process.pid == pid and (state / "token").exists()
    code, log = robot.stop()
    assert code == 0 and "starting again with it" in log and "Traceback" not in log


@needs_server
def test_an_address_that_is_in_use_is_listened_on_later(bundle_path, tmp_path):
    holder = socket.create_server(("127.0.0.1", 0))
    robot = Robot(bundle_path, "none", tmp_path / "s", f"127.0.0.1:{holder.getsockname()[1]}")
    robot.port = holder.getsockname()[1]
    end = time.monotonic() + 60
    while "Address already in use" not in robot.log and time.monotonic() < end:
        time.sleep(0.1)
    assert robot.process.poll() is None
    holder.close()
    robot.until(lambda status, facts: status == 200 and facts["state"] == "serving")
    code, log = robot.stop()
    assert code == 0 and "Address already in use" in log and "trying again" in log


@needs_server
@pytest.mark.parametrize("listen", ["999.1.1.1:80", "1.2.3.4.5:80"])
def test_an_address_that_is_none_is_refused(bundle_path, tmp_path, listen, plr_edge):
    result = plr_edge("run", str(bundle_path), "none", "--state", str(tmp_path / "s"),
                      "--listen", listen)  # fmt: skip
    assert result.exit_code == 2 and "cannot listen on" in result.output


@needs_server
@pytest.mark.parametrize("kind", ["file", "link to a file", "folder", "pipe"])
def test_what_is_no_socket_is_never_deleted(bundle_path, tmp_path, plr_edge, kind):
    place = tmp_path / "x.sock"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        target = place if kind == "file" else tmp_path / "target"
        target.write_bytes(b"13 bytes here")
        if kind != "file":
            place.symlink_to(target)
    result = plr_edge("run", str(bundle_path), "none", "--state", str(tmp_path / "s"),
                      "--listen", f"unix:{place}")  # fmt: skip
    assert result.exit_code == 2 and "is not a socket" in result.output
    assert os.path.lexists(place)
    if kind in ("file", "link to a file"):
        assert place.read_bytes() == b"13 bytes here"


@needs_server
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_fresh_robot_on_a_full_disk_serves_and_learns_once_there_is_space(bundle_path, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-o", "size=8m,mode=700"]
    if subprocess.run(["mount", "-t", "tmpfs", *options, "x", str(disk)]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with open(disk / "filler", "wb") as filler:
            filler.write(bytes((8 << 20) - shutil.disk_usage(disk).used))
        robot = Robot(bundle_path, "none", disk / "s")
        facts = robot.until(lambda status, facts: status and facts["state"] == "degraded")
        assert "No space left" in facts["reason"] or "full" in facts["reason"]
        (disk / "filler").unlink()
        robot.until(lambda status, facts: status == 200 and facts["state"] == "serving")
        assert (disk / "s" / "token").stat().st_size > 10
        code, log = robot.stop()
        assert code == 0 and "Traceback" not in log
    finally:
        subprocess.run(["umount", "-l", str(disk)])


def test_an_error_keeps_its_message_and_its_kind():
    error = ConfigError("what is wrong", can_pass=True)
    assert str(error) == "what is wrong" and isinstance(error, PlrEdgeError) and error.can_pass
