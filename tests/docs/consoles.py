"""Consoles of a page: the commands as a reader types them, and the outputs that are shown.

A console is a block that begins with three backticks and `console`. A line that begins with `$ ` is
a command, and the lines after it are its output. Output is compared by its shape: a number stands
for any number, spaces for any spaces, `...` for anything in a line, and for any lines where it
stands alone. A comment before a block tells the test what a reader does without typing:

    <!-- test: second terminal -->   leave the command running
    <!-- test: wait 6 -->            wait so many seconds
    <!-- test: Ctrl-C -->            interrupt what runs in the second terminal
"""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

_PART = re.compile(r"^(?:<!-- test: (.*?) -->|```console\n(.*?)^```)$", re.MULTILINE | re.DOTALL)
_NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"
_LISTENING = re.compile(r"^plr-edge (run|teach|status|watch)\b")


@dataclass
class Command:
    """A command of a page, the output that is shown, and what a reader does before it."""

    text: str
    output: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)


def commands_of(page: Path) -> list[Command]:
    """Return the commands of all consoles of a page, in order."""
    found: list[Command] = []
    before: list[str] = []
    for directive, console in _PART.findall(page.read_text(encoding="utf-8")):
        if directive:
            before.append(directive)
            continue
        for line in console.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:].partition("  #")[0].strip(), before=before))
                before = []
            else:
                found[-1].output.append(line)
    if before:
        found.append(Command("true", before=before))
    return found


def same_shape(shown: list[str], printed: str) -> bool:
    """Whether an output looks like the one that is shown."""
    patterns = [r"(?:.*\n)*?" if line.strip() == "..." else _line(line) for line in shown]
    lines = "".join(line.rstrip() + "\n" for line in printed.splitlines() if line.strip())
    return re.fullmatch("".join(patterns), lines) is not None


def _line(line: str) -> str:
    parts = re.split(rf"(\.\.\.|\s+|{_NUMBER})", line.strip())
    forms = {"...": ".*"}
    made = [
        forms.get(part) or (r"\s+" if part.isspace() else _NUMBER if i % 2 else re.escape(part))
        for i, part in enumerate(parts)
        if part
    ]
    return r"[ \t]*" + "".join(made) + "\n"


class Terminal:
    """Runs commands in one folder, and one command beside them."""

    def __init__(self, folder: Path) -> None:
        """Choose a free port, so that a robot elsewhere on this machine is left alone."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._listen = f" --listen 127.0.0.1:{probe.getsockname()[1]}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._folder, self._environment = folder, {**os.environ, "PATH": path}
        self._beside: subprocess.Popen[bytes] | None = None
        self.beside_printed = ""

    def run(self, command: Command) -> str:
        """Do what a reader does at a command; returns what it printed."""
        text = _LISTENING.sub(lambda m: m[0] + self._listen, command.text)
        for directive in command.before:
            if directive.startswith("wait "):
                time.sleep(float(directive.split()[1]))
            elif directive == "Ctrl-C":
                self.close()
            elif directive == "second terminal":
                return self._start(text, command.output)
            else:
                raise AssertionError(f"a page says {directive!r}")
        done = subprocess.run(
            ["bash", "-c", text], cwd=self._folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command.text}\n{done.stdout}"
        return done.stdout

    def _start(self, text: str, shown: list[str]) -> str:
        """Leave a command running, as in a terminal, once it printed what is shown."""
        ours, theirs = pty.openpty()
        self._beside = subprocess.Popen(
            ["bash", "-c", f"exec {text}"], cwd=self._folder, env=self._environment,
            stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        threading.Thread(target=self._read, args=(ours,), daemon=True).start()
        until = time.monotonic() + 120
        while not same_shape([*shown, "..."], self.beside_printed) and time.monotonic() < until:
            time.sleep(0.1)
        return self.beside_printed

    def _read(self, descriptor: int) -> None:
        while True:
            try:
                self.beside_printed += os.read(descriptor, 4096).decode()
            except OSError:  # the other end is closed
                os.close(descriptor)
                return

    def close(self) -> None:
        """Press Ctrl-C in the second terminal."""
        if self._beside is not None:
            self._beside.send_signal(signal.SIGINT)
            assert self._beside.wait(60) == 0, self.beside_printed
            self._beside = None
