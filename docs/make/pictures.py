"""Take the pictures of the README from a real robot: `python docs/make/pictures.py`.

Needs Chromium and its driver (`apt install chromium chromium-driver`) and the extras `train`,
`export`, `serve` and `report`. A robot runs on the embedded film, most of its objects are taught on
the page as an operator does, and the page and the report of `plr-edge demo` are photographed.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
N_OBJECTS = 8
RATE = 5  # frames/s
HOLD_S = 6
OBJECT = "(window.latest ? latest.source.split('/').slice(-2)[0] : '')"  # the folder of a frame

sys.path.insert(0, str(ROOT))

from tests.serve.browser import Browser, find_browser  # noqa: E402


def plr_edge(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder."""
    command = [sys.executable, "-m", "plr_edge", *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, stderr=subprocess.PIPE)


def photograph(browser: Browser, name: str) -> None:
    """Save what the window shows as a small PNG."""
    browser.js("document.documentElement.style.overflow = 'hidden'")  # no scroll bar
    image = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    image = image.resize((1000, round(image.height * 1000 / image.width)), Image.Resampling.LANCZOS)
    image.quantize(256).save(IMAGES / name, optimize=True)
    print(f"{name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")


def photograph_page(browser: Browser, folder: Path) -> None:
    """Teach objects of the film on the page of a running robot, and take its picture."""
    robot = plr_edge("run", "demo/bundle", "demo", "--state", "learned", "--rate", str(RATE),
                     "--listen", "127.0.0.1:0", folder=folder)  # fmt: skip
    try:
        assert robot.stderr is not None
        line = next(line for line in robot.stderr if "http://" in line)
        url = re.search(r"http://[\d.:]+/", line)
        assert url is not None
        threading.Thread(target=robot.stderr.read, daemon=True).start()
        browser.size(1000, 700)
        browser.open(f"{url[0]}#token={(folder / 'learned' / 'token').read_text()}")
        folder_name = ""
        for _ in range(N_OBJECTS):
            folder_name = browser.until(f"{OBJECT} !== {folder_name!r} && {OBJECT}")
            browser.type("#label", re.sub(r"_\d+$", "", folder_name).replace("_", " "))
            browser.hold("#teach", HOLD_S)
            if not browser.js("$('asked').hidden"):
                browser.click("#dismiss")
        photograph(browser, "page.png")
    finally:
        robot.terminate()
        robot.wait()


def main() -> None:
    """Take both pictures."""
    found = find_browser()
    if found is None:
        raise SystemExit("needs a browser and its driver: apt install chromium chromium-driver")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert plr_edge("demo", folder=folder).wait() == 0
        browser = Browser(*found, folder / "profile")
        try:
            photograph_page(browser, folder)
            browser.size(1180, 826)
            browser.open(f"file://{folder}/demo/report.html")
            end = browser.js("document.querySelectorAll('svg')[1].getBoundingClientRect().bottom")
            browser.size(1180, round(end))  # to the end of the second plot
            photograph(browser, "report.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()
