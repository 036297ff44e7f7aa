"""Drives the page of a running robot in a headless Chromium (QtWebEngine, `pip install PySide6`).

    browser.py URL PICTURE

Teaches two objects of a film by holding the button, sees each recognised, undoes one.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault(
    "QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu --disable-dev-shm-usage"
)

from PySide6.QtCore import QEventLoop, QTimer, QUrl
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication


class Page:
    def __init__(self, url: str) -> None:
        self.view = QWebEngineView()
        self.view.resize(1000, 760)
        self.view.show()
        loop = QEventLoop()
        self.view.loadFinished.connect(loop.quit)
        self.view.load(QUrl(url))
        loop.exec()

    def js(self, code: str) -> object:
        """Run JavaScript and return its value."""
        loop, found = QEventLoop(), []

        def take(value: object) -> None:
            found.append(value)
            loop.quit()

        self.view.page().runJavaScript(code, 0, take)
        QTimer.singleShot(5000, loop.quit)
        loop.exec()
        return found[0] if found else None

    def wait(self, seconds: float) -> None:
        loop = QEventLoop()
        QTimer.singleShot(int(1000 * seconds), loop.quit)
        loop.exec()

    def until(self, code: str, seconds: float = 30) -> object:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.js(code)
            if value:
                return value
            self.wait(0.1)
        raise AssertionError(f"never: {code}; said: {self.js('$(`said`).textContent')}")

    def hold(self, label: str, seconds: float) -> None:
        """Type a name, and hold the button."""
        self.js(f"$('label').value = {json.dumps(label)}")
        self.js("$('teach').dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))")
        self.wait(seconds)
        self.js("window.dispatchEvent(new PointerEvent('pointerup'))")


def source(page: Page) -> str:
    return str(page.js("window.latest ? latest.source.split('#')[0] : ''"))


def main() -> None:
    application = QApplication(sys.argv)
    page = Page(sys.argv[1])
    page.until("window.latest !== undefined")
    page.until("document.getElementById('picture').naturalWidth > 0")
    taught = []
    for name in ("first", "second"):
        here = source(page)
        page.until(f"latest.source.split('#')[0] !== {json.dumps(here)}", 20)  # a fresh object
        page.hold(name, 1.5)
        page.until(f"$('answer').textContent.startsWith({json.dumps(name)})", 5)
        taught.append(page.js("$('said').textContent"))
    names = "[...document.querySelectorAll('#classes span')].map(x => x.textContent).join()"
    page.until(f"{names} === 'first,second'")
    page.until("document.querySelectorAll('#classes img[src]').length === 2")
    page.until("$('fps').textContent !== '-' && $('memory').textContent !== '-'")
    page.view.grab().save(sys.argv[2])
    page.js("document.querySelectorAll('#classes button')[1].click()")
    page.until(f"{names} === 'first'")
    print(json.dumps({"taught": taught, "state": page.js("$('state').textContent")}))
    del page
    application.quit()


if __name__ == "__main__":
    main()
