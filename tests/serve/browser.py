"""A headless Chromium, driven by chromedriver (WebDriver) with the standard library alone."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

DRIVERS, BROWSERS = ("chromedriver",), ("chromium", "chromium-browser", "google-chrome")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def find_browser() -> tuple[str, str] | None:
    """Return the paths of a driver and of a browser, None where one is missing."""
    found = [next(filter(None, map(shutil.which, names)), None) for names in (DRIVERS, BROWSERS)]
    return (found[0], found[1]) if found[0] and found[1] else None


class Browser:
    """One window of one browser."""

    def __init__(self, driver: str, browser: str, profile: Path) -> None:
        self._driver = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._driver.stdout is not None
        line = next(line for line in self._driver.stdout if "successfully on port" in line)
        self._url = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}"
        options = {
            "binary": browser,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--disable-quic", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--disable-sync",
                     f"--user-data-dir={profile}", "--window-size=1000,900"],
        }  # fmt: skip
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = self._ask("POST", "/session", wanted)["sessionId"]
        self._url += f"/session/{session}"

    def close(self) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(10)

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def size(self, width: int, height: int) -> None:
        """Make the page so many pixels large; the window is larger by its frame."""
        frame = self.js("[outerWidth - innerWidth, outerHeight - innerHeight]")
        wanted = {"width": width + frame[0], "height": height + frame[1]}
        self._ask("POST", "/window/rect", wanted)

    def js(self, code: str) -> Any:
        """Return the value of an expression."""
        script = {"script": f"return {code}", "args": []}
        return self._ask("POST", "/execute/sync", script)

    def until(self, code: str, seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.js(code):
                return value
            time.sleep(0.05)
        said = self.js("document.body.innerText")
        raise AssertionError(f"never: {code}; the page says: {said}")

    def type(self, css: str, text: str) -> None:
        element = self._find(css)
        self._ask("POST", f"/element/{element}/clear", {})
        self._ask("POST", f"/element/{element}/value", {"text": text})

    def click(self, css: str) -> None:
        self._ask("POST", f"/element/{self._find(css)}/click", {})

    def hold(self, css: str, seconds: float) -> None:
        """Press the mouse on an element, as a user does, and let go after a while."""
        where = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0,
                 "origin": {_ELEMENT: self._find(css)}}  # fmt: skip
        steps = [where, {"type": "pointerDown", "button": 0},
                 {"type": "pause", "duration": int(1000 * seconds)},
                 {"type": "pointerUp", "button": 0}]  # fmt: skip
        mouse = {"type": "pointer", "id": "mouse", "actions": steps}
        self._ask("POST", "/actions", {"actions": [mouse]})

    def picture(self) -> bytes:
        """Return a PNG of the page."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def _find(self, css: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": css})
        return found[_ELEMENT]

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:500]}") from None
