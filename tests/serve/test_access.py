"""Who may see and do what: on this machine, on a network, through a browser, and over TLS."""

import http.client
import logging
import ssl
import threading
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from plr_edge.cli.client import Target, answer
from plr_edge.errors import ConfigError
from plr_edge.serve.access import make_access, tell_address, withdraw_address
from plr_edge.serve.address import HostCheck, host_of, is_loopback
from plr_edge.serve.api import make_app
from plr_edge.serve.auth import TokenCheck
from plr_edge.serve.server import Service
from plr_edge.serve.tokens import Tokens, read_token, rotate_token
from tests.serve.robots import in_base64, running

TEACHER, VIEWER = "t" * 32, "v" * 32
GETS = (
    "/", "/health", "/health/ready", "/metrics", "/classes", "/events", "/frame.jpg", "/log",
    "/quarantine", "/inspect", "/repair", "/openapi.json", "/thumbnails/0.jpg", "/asked/1.jpg",
    "/operations/x", "/nothing", "/token", "/../token",
)  # fmt: skip
POSTS = (
    "/teach", "/predict", "/undo", "/rollback", "/save", "/pause", "/resume", "/forget",
    "/quarantine", "/nothing",
)  # fmt: skip


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def robot(bundle_path, tmp_path_factory):
    with running(bundle_path, tmp_path_factory.mktemp("access") / "s") as made:
        yield made


@pytest.fixture
def check():
    return TokenCheck(lambda: Tokens(TEACHER, VIEWER), open_reading=False)


@pytest.fixture
def network(robot, check):
    return TestClient(make_app(robot, check, HostCheck("0.0.0.0:80", ["testserver"])))


def test_on_a_network_nothing_but_life_is_open_without_a_token(network):
    assert network.get("/health/live").json() == {"alive": True}
    for path in GETS:
        assert network.get(path).status_code == 401, path
    for path in POSTS:
        assert network.post(path, json={}).status_code == 401, path
        assert network.post(path, json={}, headers=bearer("x" * 32)).status_code == 401, path


def test_the_page_that_asks_for_the_token_tells_nothing(network):
    page = network.get("/")
    assert page.status_code == 401 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_viewer_looks_and_changes_nothing(network, robot, demo_frames):
    for path in GETS[:5]:
        if path != "/events":
            assert network.get(path, headers=bearer(VIEWER)).status_code in (200, 404), path
    image = in_base64(demo_frames[0].image)
    predicted = network.post("/predict", json={"images": [image]}, headers=bearer(VIEWER))
    assert predicted.status_code == 200
    for path in POSTS:
        if path not in ("/predict", "/nothing"):
            refused = network.post(path, json={}, headers=bearer(VIEWER))
            assert refused.status_code == 403 and "teacher" in refused.json()["detail"], path
    assert network.post("/pause", headers=bearer(TEACHER)).json()["state"] != ""
    assert network.post("/resume", headers=bearer(TEACHER)).status_code == 200
    assert robot.model.store.last_seq == 0


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", f"bearer {TEACHER}", f"Bearer {TEACHER}x", f"Basic {TEACHER}",
     f"Bearer {TEACHER[:-1]}", f"Bearer {VIEWER}{TEACHER}", TEACHER],
)  # fmt: skip
def test_what_is_nearly_a_token_is_none(network, header):
    assert network.get("/health", headers={"Authorization": header}).status_code == 401
    assert (
        network.post("/undo", json={"last": 1}, headers={"Authorization": header}).status_code
        == 401
    )


def test_an_empty_viewers_token_opens_nothing(robot):
    client = TestClient(make_app(robot, TokenCheck(TEACHER, open_reading=False)))
    for header in ("Bearer ", "Bearer", ""):
        assert client.get("/health", headers={"Authorization": header}).status_code == 401


def test_wrong_tokens_are_counted_logged_and_slowed(network, check, caplog):
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for i in range(16):
            assert network.get("/health", headers=bearer(f"wrong{i}")).status_code == 401
    assert time.monotonic() - began > 0.5  # ten at once, then one each quarter of a second
    assert check.rejected["wrong"] == 16
    assert len([r for r in caplog.records if "wrong token" in r.message]) == 1
    assert "wrong1" not in caplog.text
    text = network.get("/metrics", headers=bearer(VIEWER)).text
    assert 'plr_edge_rejected_tokens_total{reason="wrong"} 16.0' in text
    assert 'plr_edge_http_requests_total{code="401",route="/health"} 16.0' in text
    assert network.get("/classes", headers=bearer(VIEWER)).elapsed.total_seconds() < 2


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("evil.example:8077", 421), ("robot.evil.example", 421), ("", 421),
     ("127.0.0.1.evil.example", 421), ("[evil]:80", 421), ("localhost:80:80", 421),
     ("localhost", 200), ("LOCALHOST:8077", 200), ("127.0.0.1:1", 200), ("[::1]:8077", 200),
     ("10.1.2.3:8077", 200), ("proxy.example", 200)],
)  # fmt: skip
def test_only_names_of_the_robot_are_answered(robot, host, status):
    knows = HostCheck("127.0.0.1:8077", ["proxy.example"])
    client = TestClient(make_app(robot, TEACHER, knows))
    assert client.get("/health/live", headers={"Host": host}).status_code == status
    assert client.get("/frame.jpg", headers={"Host": host}).status_code in (status, 404)


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://localhost:1", 403), ("", 403),
     ("file://", 403), ("http://localhost:8077", 200), ("https://localhost:8077", 200)],
)  # fmt: skip
def test_pages_of_another_origin_are_refused_whatever_they_carry(robot, origin, status):
    client = TestClient(make_app(robot, TEACHER))
    headers = {"Host": "localhost:8077", "Origin": origin, **bearer(TEACHER)}
    assert client.get("/health/live", headers=headers).status_code == status
    assert client.post("/pause", headers=headers).status_code == status
    client.post("/resume", headers=bearer(TEACHER))


def test_every_answer_is_hardened(network):
    answers = [
        network.get("/health/live"), network.get("/health"), network.get("/nothing"),
        network.get("/", headers=bearer(VIEWER)), network.post("/teach", json={}),
        network.request("DELETE", "/teach"), network.get("/health", headers={"Host": "evil"}),
    ]  # fmt: skip
    for each in answers:
        assert each.headers["x-content-type-options"] == "nosniff", each.url
        assert each.headers["x-frame-options"] == "DENY"
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in each.headers["content-security-policy"]
        assert "server" not in each.headers
        assert not any("access-control" in name for name in each.headers)
    page = answers[3].headers["content-security-policy"]
    assert "script-src 'sha256-" in page and "unsafe" not in page


def test_which_addresses_are_local():
    for local in ("127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/x"):
        assert is_loopback(local), local
    for open_to_others in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "robot:1", "[::ffff:1.2.3.4]:1"):
        assert not is_loopback(open_to_others), open_to_others
    assert [host_of(x) for x in ("A:1", "[::1]", "a.", "a:b", "[x]", "")] == [
        "a", "::1", "a", None, None, None,
    ]  # fmt: skip


@pytest.fixture
def served(robot):
    """A robot on every address of this machine, as it is by default."""
    state = robot.model.store.path
    ready = threading.Event()
    told = []
    access = make_access(state, "0.0.0.0:0")
    service = Service(robot, access, "0.0.0.0:0", lambda at: (told.append(at), ready.set()))
    assert ready.wait(30)
    tell_address(state, told[0])
    yield told[0], state
    withdraw_address(state)
    service._server.should_exit = True
    service.stop()


def test_other_machines_are_answered_over_tls_and_our_commands_pin_it(served):
    address, state = served
    port = int(address.listen.rpartition(":")[2])
    listen = f"127.0.0.1:{port}"
    with pytest.raises((OSError, http.client.HTTPException)):
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        plain.request("GET", "/health/live")
        plain.getresponse()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLError):  # no authority has signed it
        http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context).connect()
    assert answer(Target(state=state), "GET", "/health")["state"]
    assert answer(Target(listen, state), "GET", "/health")["state"]
    viewer = state / "viewer-token"
    pinned = Target(listen, None, viewer, address.fingerprint)
    assert answer(pinned, "GET", "/health")["state"]
    with pytest.raises(ConfigError, match="changes nothing"):
        answer(pinned, "POST", "/pause")
    other = Target(listen, None, viewer, "ab" * 32)
    with pytest.raises(ConfigError, match="somebody may be in between"):
        answer(other, "GET", "/health")
    rotate_token(state, "teacher")
    time.sleep(1.2)
    assert answer(Target(state=state), "POST", "/pause")["state"]
    assert answer(Target(state=state), "POST", "/resume")["state"]


def test_what_contradicts_itself_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="contradict"):
        make_access(tmp_path, "0.0.0.0:1", insecure=True, certificate=(tmp_path, tmp_path))
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1 is not one"):
        make_access(tmp_path, "127.0.0.1:1", insecure=True)
    with pytest.raises(ConfigError, match="cannot use the certificate"):
        make_access(tmp_path, "0.0.0.0:1", certificate=(tmp_path / "a", tmp_path / "b"))
    assert make_access(tmp_path, "0.0.0.0:1", insecure=True).certificate is None
    assert make_access(tmp_path, "127.0.0.1:1").certificate is None
    assert read_token(tmp_path) != read_token(tmp_path, "viewer")
