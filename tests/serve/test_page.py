"""The page in a real headless browser, against a real `plr-edge run` over a film through OpenCV."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from plr_edge.stream import open_stream
from tests.serve.browser import Browser, find_browser

pytest.importorskip("fastapi")
cv2 = pytest.importorskip("cv2", reason="no OpenCV: pip install 'plr-edge[video]'")
NAMES = "[...document.querySelectorAll('#classes span')].map(x => x.textContent).join()"
FRAMES_PER_OBJECT = 54
OBJECT = f"(window.latest ? Math.floor(latest.source.split('#')[1] / {FRAMES_PER_OBJECT}) : -1)"


@pytest.fixture
def browser(tmp_path):
    found = find_browser()
    if found is None:
        pytest.skip("needs a browser and its driver: apt install chromium chromium-driver")
    made = Browser(*found, tmp_path / "profile")
    yield made
    made.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of twelve fruits, one after another, on a turntable, 8 frames a second."""
    path = tmp_path_factory.mktemp("film") / "fruits.avi"
    frames = list(open_stream("demo"))
    side = frames[0].image.shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 8, (side, side))
    assert writer.isOpened() and len(frames) == 12 * FRAMES_PER_OBJECT
    for frame in frames:
        writer.write(frame.image[..., ::-1])
    writer.release()
    return path


@pytest.fixture
def url(bundle_path, film, tmp_path):
    robot = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle_path), str(film), "--state",
         str(tmp_path / "s"), "--listen", "127.0.0.1:0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    found = next((line for line in robot.stderr if "serving at" in line), None)
    assert found is not None
    threading.Thread(target=lambda: list(robot.stderr), daemon=True).start()
    token = (tmp_path / "s" / "token").read_text()
    assert token not in found  # it is written to a log
    yield found.split()[2].rstrip(";") + f"#token={token}"
    robot.terminate()
    assert robot.wait(30) == 0


def test_two_objects_are_taught_on_the_page_recognised_and_one_undone(browser, url, tmp_path):
    browser.open(url)
    browser.until("window.latest !== undefined")
    browser.until("document.getElementById('picture').naturalWidth > 0")
    for name in ("first", "second"):
        here = browser.js(OBJECT)
        browser.until(f"{OBJECT} > {here}")  # a fresh object
        browser.type("#label", name)
        browser.hold("#teach", 1.5)
        browser.until(f"$('answer').textContent.startsWith({name!r})")
        assert "taught" in browser.js("$('message').textContent")
    browser.until(f"{NAMES} === 'first,second'")
    browser.until("[...document.querySelectorAll('#classes img')].every(x => x.naturalWidth > 0)")
    browser.until("$('fps').textContent !== '-' && $('memory').textContent !== '-'")
    assert browser.js("document.querySelector('#chart-memory polyline') !== null")
    png = browser.picture()
    assert png.startswith(b"\x89PNG") and len(png) > 10_000
    if folder := os.environ.get("PLR_EDGE_PICTURES"):
        with open(os.path.join(folder, "page.png"), "wb") as file:
            file.write(png)
    browser.click("#classes li:nth-child(2) button")
    browser.until(f"{NAMES} === 'first'")


def test_a_stranger_is_shown_and_named_by_the_operator(browser, url):
    """Before anything is taught every frame is unknown, and those of an object look alike."""
    browser.open(url)
    browser.until("!$('asked').hidden")
    browser.until("$('stranger').naturalWidth > 0")
    browser.type("#name", "stranger")
    browser.click("#answer-form button")
    browser.until(f"{NAMES} === 'stranger'")
    assert browser.until("Number(document.querySelector('#classes b').textContent)") == 15
    browser.until("document.querySelector('#classes img').naturalWidth > 0")


def test_the_token_leaves_the_address_and_teaching_ends_with_the_pointer(browser, url):
    browser.open(url)
    browser.until("window.latest !== undefined")
    assert browser.js("location.href").endswith("/") and "token" not in browser.js("location.href")
    assert browser.js("sessionStorage.getItem('token')") == url.partition("#token=")[2]
    browser.type("#label", "held")
    for end in ("pointercancel", "lostpointercapture", "blur", "offline"):
        browser.js("$('teach').dispatchEvent(new PointerEvent('pointerdown'))")
        browser.until("$('teach').classList.contains('held')")
        browser.js(f"($('{'teach' if 'pointer' in end else ''}') || window)"
                   f".dispatchEvent(new Event('{end}', {{bubbles: true}}))")  # fmt: skip
        assert not browser.js("$('teach').classList.contains('held')"), end
    browser.js("sessionStorage.setItem('token', 'wrong')")
    browser.js("ask('/undo', {last: 1}).catch(() => 0)")
    browser.until("!$('ask-token').hidden")
    browser.type("#token", url.partition("#token=")[2])
    browser.click("#ask-token button")
    browser.until("$('ask-token').hidden && window.latest !== undefined")


def started(bundle, film, state, port):
    """Start a robot, and return its process once it serves."""
    robot = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", str(bundle), str(film), "--state", str(state),
         "--listen", f"127.0.0.1:{port}", "--rate", "8"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert next((line for line in robot.stderr if "serving at" in line), None) is not None
    threading.Thread(target=lambda: list(robot.stderr), daemon=True).start()
    return robot


def test_the_page_shows_frames_beside_silent_listeners_of_others(browser, url):
    """They have places of their own, and give way to who comes later."""
    port = int(url.split(":")[2].partition("/")[0])
    head = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    for each in silent:
        each.sendall(head)
    browser.open(url)
    browser.until("window.latest !== undefined")
    browser.type("#label", "held")
    browser.hold("#teach", 1.5)
    browser.until(f"{NAMES} === 'held'")
    for each in silent:
        each.close()
    seen = browser.js("window.latest.sequence")
    browser.until(f"window.latest.sequence > {seen + 10}")


def test_a_page_that_stays_open_finds_the_robot_again_after_a_restart(
    browser, bundle_path, film, tmp_path
):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    robot = started(bundle_path, film, tmp_path / "s", port)
    try:
        token = (tmp_path / "s" / "token").read_text()
        browser.open(f"http://127.0.0.1:{port}/#token={token}")
        browser.until("window.latest !== undefined")
        browser.type("#label", "before")
        browser.hold("#teach", 1.0)
        browser.until(f"{NAMES} === 'before'")
        robot.terminate()
        assert robot.wait(30) == 0
        browser.until("!['serving', 'learning'].includes($('state').textContent)")
        browser.until("window.latest === undefined")  # nothing old is shown as if it were live
        robot = started(bundle_path, film, tmp_path / "s", port)
        browser.until("window.latest !== undefined")
        browser.until("['serving', 'learning'].includes($('state').textContent)")
        browser.type("#label", "after")
        browser.hold("#teach", 1.0)
        browser.until(f"{NAMES} === 'before,after'")
    finally:
        robot.terminate()
        assert robot.wait(30) == 0
