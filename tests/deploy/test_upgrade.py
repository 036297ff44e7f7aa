"""An upgrade is checked before it is used, and taken back by itself if the robot does not come up.

pip and systemd are played by scripts; what is tested is what install.sh does with their answers.
"""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from plr_edge.serve.certificate import own_certificate

DEPLOY = Path(__file__).parents[2] / "deploy"

PYTHON = """#!/bin/sh
# plays python: makes an environment whose plr-edge says what the test wants
case "$*" in
    *venv*) for last; do :; done
        mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; echo env > "$last/pyvenv.cfg" ;;
    *"pip install"*) bin=$(dirname "$0"); cp "$PLAYED" "$bin/plr-edge" ;;
    "- live "*) exec "$REAL_PYTHON" "$@" ;;
    --version) echo Python 3.11 ;;
esac
exit 0
"""
PLR_EDGE = """#!/bin/sh
echo "$0 $*" >> "$CALLS"
case $1 in
    "$REFUSES") echo "Error: refused" >&2; exit 2 ;;
    backup) mkdir -p "$3" ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >> "$CALLS"
case $1 in
    cat) cat "$UNIT" ;;
    is-active) exit "${ACTIVE:-0}" ;;
    show) count=$(cat "$0.count" 2> /dev/null || echo 0)
        if [ -n "$DIES" ] && readlink "$HOME_DIR/current" | grep -q "$DIES"; then
            count=$((count + 1)); echo $count > "$0.count"
        fi
        echo $count ;;
esac
exit 0
"""


@pytest.fixture
def board(tmp_path):
    """A checkout of one version, tools that play pip and systemd, and an empty root."""
    made = Board(tmp_path)
    made.checkout("1.0")
    return made


class Board:
    def __init__(self, path):
        self.path, self.root = path, path / "root"
        self.home = self.root / "opt" / "plr-edge"
        self.calls = path / "calls"
        for name, text in (("python", PYTHON), ("plr-edge", PLR_EDGE), ("systemctl", SYSTEMCTL)):
            (path / name).write_text(text)
            (path / name).chmod(0o755)

    def checkout(self, version):
        folder = self.path / "checkout"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(DEPLOY, folder / "deploy")
        (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
        unit = folder / "deploy" / "plr-edge.service"
        unit.write_text(f"# {version}\n{unit.read_text()}")

    def install(self, *options, **environment):
        self.calls.write_text("")
        env = {
            **os.environ,
            "PYTHON": str(self.path / "python"), "PLAYED": str(self.path / "plr-edge"),
            "SYSTEMCTL": str(self.path / "systemctl"), "CALLS": str(self.calls), "REFUSES": "-",
            "REAL_PYTHON": sys.executable,
            "UNIT": str(self.root / "etc/systemd/system/plr-edge.service"),
            "HOME_DIR": str(self.home), "CHECK_EVERY_S": "0", "DIES": "", **environment,
        }  # fmt: skip
        return subprocess.run(
            ["sh", str(self.path / "checkout" / "deploy" / "install.sh"), "--root", str(self.root),
             *options],
            env=env, capture_output=True, text=True,
        )  # fmt: skip

    @property
    def current(self):
        return os.readlink(self.home / "current").removeprefix("versions/")

    @property
    def unit(self):
        return (self.root / "etc/systemd/system/plr-edge.service").read_text().split("\n")[0]

    @property
    def versions(self):
        return sorted(path.name for path in (self.home / "versions").iterdir())


def test_two_versions_are_kept_and_one_can_go_back(board):
    for version in ("1.0", "2.0", "3.0"):
        board.checkout(version)
        done = board.install()
        assert done.returncode == 0, done.stderr
        assert (board.current, board.unit) == (f"{version}-1", f"# {version}")
        assert (board.home / "bin" / "plr-edge").exists()
    assert board.versions == ["2.0-1", "3.0-1"]
    assert board.install("--back").returncode == 0
    assert (board.current, board.unit) == ("2.0-1", "# 2.0")


def test_what_does_not_come_up_is_taken_back(board):
    assert board.install().returncode == 0
    board.checkout("2.0")
    done = board.install(DIES="2.0")
    assert done.returncode == 1 and "does not stay up with 2.0-1" in done.stderr
    assert "back at 1.0-1" in done.stderr
    assert (board.current, board.unit) == ("1.0-1", "# 1.0")
    assert "try-restart plr-edge.service" in board.calls.read_text()


@pytest.mark.parametrize("command", ["verify", "inspect", "backup"])
def test_what_the_new_version_refuses_is_never_switched_to(board, command):
    assert board.install().returncode == 0
    (board.home / "bundle").mkdir()
    (board.home / "bundle" / "manifest.json").write_text("{}")
    state = board.root / "var/lib/plr-edge/learned"
    state.mkdir(parents=True)
    (state / "store.db").write_bytes(b"learned")
    board.checkout("2.0")
    done = board.install(REFUSES=command)
    assert done.returncode == 1 and "nothing was changed" in done.stderr
    assert (board.current, board.unit, board.versions) == ("1.0-1", "# 1.0", ["1.0-1"])
    assert "restart" not in board.calls.read_text()
    done = board.install()
    assert done.returncode == 0 and board.current == "2.0-1"
    assert (state / "store.db").read_bytes() == b"learned"


def test_an_installation_of_an_earlier_installer_becomes_a_version_to_go_back_to(board):
    (board.home / "bin").mkdir(parents=True)
    (board.home / "lib").mkdir()
    (board.home / "pyvenv.cfg").write_text("env")
    old = board.home / "bin" / "plr-edge"
    old.write_text("#!/opt/plr-edge/bin/python\nprint('old')\n")
    units = board.root / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "plr-edge.service").write_text("# old\n")
    done = board.install()
    assert done.returncode == 0, done.stderr
    assert board.current == "1.0-1" and os.readlink(board.home / "previous") == "versions/old"
    moved = board.home / "versions" / "old" / "bin" / "plr-edge"
    assert moved.read_text().startswith("#!/opt/plr-edge/versions/old/bin/python\n")
    assert board.install("--back").returncode == 0
    assert (board.current, board.unit) == ("old", "# old")


def test_a_robot_that_was_off_stays_off(board):
    assert board.install(ACTIVE="3").returncode == 0
    assert " restart" not in board.calls.read_text()


def test_there_is_nothing_to_go_back_to_after_the_first(board):
    assert board.install().returncode == 0
    done = board.install("--back")
    assert done.returncode == 2 and "no version to go back to" in done.stderr


def test_uninstalling_leaves_the_bundle_and_what_was_learned(board):
    assert board.install().returncode == 0
    (board.home / "bundle").mkdir()
    assert board.install("--uninstall").returncode == 0
    assert [path.name for path in board.home.iterdir()] == ["bundle"]


class Robot(BaseHTTPRequestHandler):
    """Answers as a robot does to who has no token."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/health/live" else 401)
        self.end_headers()

    def log_message(self, *_):
        pass

    def address_string(self):
        return ""  # of a Unix socket


class AtSocket(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)


@contextmanager
def robot_at(kind, path, status=200):
    """Something that answers, and the value of --listen."""
    handler = type("Answering", (Robot,), {"status": status})
    if kind == "socket":
        server, listen = AtSocket(str(path / "s"), handler), f"unix:{path / 's'}"
    else:
        server = HTTPServer(("127.0.0.1", 0), handler)
        listen = f"{'0.0.0.0' if kind == 'tls' else '127.0.0.1'}:{server.server_port}"
    if kind == "tls":
        own = own_certificate(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.chain, own.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield listen
    server.shutdown()
    thread.join(10)
    server.server_close()


def set_listen(board, listen, where):
    if where == "settings":
        settings = board.root / "etc/default/plr-edge"
        settings.write_text(f"PLR_EDGE_OPTIONS=--board auto --listen {listen} --rate 5\n")
        return
    unit = board.path / "checkout" / "deploy" / "plr-edge.service"
    unit.write_text(unit.read_text().replace(" $PLR_EDGE_OPTIONS", f" --listen={listen}"))


@pytest.mark.parametrize("where", ["settings", "unit"])
@pytest.mark.parametrize("kind", ["port", "tls", "socket"])
def test_a_robot_that_is_up_must_also_answer_where_it_listens(board, tmp_path, kind, where):
    assert board.install().returncode == 0
    for status, version in ((200, "2.0"), (503, "3.0")):
        board.checkout(version)
        with robot_at(kind, tmp_path, status) as listen:
            set_listen(board, listen, where)
            done = board.install()
        (tmp_path / "s").unlink(missing_ok=True)
        if status == 200:
            assert (done.returncode, board.current) == (0, "2.0-1"), done.stderr
    assert done.returncode == 1 and f"nothing answers /health/live at {listen}" in done.stderr
    assert "back at 2.0-1" in done.stderr and board.current == "2.0-1"


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "unix:/nonexistent/socket", "nonsense"])
def test_a_robot_that_cannot_be_asked_is_taken_back(board, listen):
    assert board.install().returncode == 0
    board.checkout("2.0")
    set_listen(board, listen, "settings")
    done = board.install()
    assert done.returncode == 1 and "nothing answers" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and board.current == "1.0-1"
