"""`plr-edge run` in a process of its own, over a film that does not end soon."""

from __future__ import annotations

import csv
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from plr_edge.meters import process_memory
from plr_edge.stream import open_stream
from plr_edge.stream.base import Frame

RATE = 30.0


def frames_of(stream: str, n_classes: int, per_class: int) -> list[Frame]:
    """Return frames of the first classes, one class after another."""
    frames: dict[str, list[Frame]] = {}
    for frame in open_stream(stream, limit_per_class=per_class):
        if frame.label in frames or len(frames) < n_classes:
            frames.setdefault(str(frame.label), []).append(frame)
    return [frame for each in frames.values() for frame in each]


def long_film(folder: Path, frames: list[Frame], seconds: float) -> Path:
    """Write frames as files, and a list that shows them again and again."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame.image).save(folder / f"{i}.jpg", quality=95)
    film = folder / "film.csv"
    with open(film, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path"])
        rows.writerows([f"{i % len(frames)}.jpg"] for i in range(round(seconds * RATE)))
    return film


class Running:
    """A running robot and a client of it."""

    def __init__(self, bundle: str, state: Path, source: str, *options: str) -> None:
        """Start it, and wait for its first prediction."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log, self.state = list[str](), state
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "plr_edge", "run", bundle, source, "--state", str(state),
             "--listen", f"127.0.0.1:{self.port}", "--rate", str(RATE), *options],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()
        while (facts := self.health() or {"frames": 0})["frames"] == 0:
            if self.process.poll() is not None:
                raise SystemExit("".join(self.log))
            time.sleep(0.005)
        self.api_s = time.monotonic() - began
        # the film began with the first frame, and has shown so many since
        self.first_prediction_s = self.api_s - (facts["frames"] + facts["dropped"] - 1) / RATE
        self.token = (state / "token").read_text()

    def stop(self) -> float:
        """End it as systemd would; returns how long that took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(30)
        return time.monotonic() - began

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request; returns the status, 0 where there was none, and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": "application/json"}
        if body is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        with suppress(OSError, http.client.HTTPException):
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
            data = response.read()
            connection.close()
            return response.status, json.loads(data) if response.status == 200 else data
        return 0, None

    def health(self) -> dict[str, Any] | None:
        """Return what it says of itself, None where it does not answer."""
        status, facts = self.ask("GET", "/health")
        if status == 503 and facts.startswith(b'{"state"'):  # it does not serve, and says why
            facts = json.loads(facts)
        return facts if isinstance(facts, dict) else None

    def memory_mb(self) -> tuple[float, float]:
        """Return PSS of perception, and of the trainer."""
        pids = [self.process.pid, *_children(self.process.pid)]
        each = [process_memory(pid).get("pss_bytes", 0) / 1e6 for pid in pids]
        return each[0], sum(each[1:])

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]
    return []


def confine(pids: list[int], share: float) -> bool:
    """Put processes into a cgroup of their own with a quota, where that is allowed.

    Returns:
        Whether it was.
    """
    version_1 = {"cpu.cfs_quota_us": round(share * 100_000), "cpu.shares": 2}
    version_2 = {"cpu.max": f"{round(share * 100_000)} 100000", "cpu.weight": 1}
    for root, files in (("/sys/fs/cgroup/cpu", version_1), ("/sys/fs/cgroup", version_2)):
        folder = Path(root) / f"plr-edge-bad-{os.getpid()}"
        try:
            folder.mkdir()
            for name, value in files.items():
                (folder / name).write_text(str(value))
            for pid in pids:
                (folder / "cgroup.procs").write_text(str(pid))
            return True
        except OSError:
            with suppress(OSError):
                folder.rmdir()
    return False


def limit_processor(share: float) -> None:
    """Put this process and its children into a cgroup with a quota; needs root.

    The quota is the limit, not who else runs here: the group comes before other jobs.
    """
    quota_us, period_us = round(share * 100_000), 100_000
    version_1 = {"cpu.cfs_period_us": period_us, "cpu.cfs_quota_us": quota_us, "cpu.shares": 65536}
    version_2 = {"cpu.max": f"{quota_us} {period_us}", "cpu.weight": 10000}
    for root, files in (("/sys/fs/cgroup/cpu", version_1), ("/sys/fs/cgroup", version_2)):
        folder = Path(root) / f"plr-edge-test-{os.getpid()}"
        try:
            folder.mkdir()
            for name, value in files.items():
                (folder / name).write_text(str(value))
            (folder / "cgroup.procs").write_text(str(os.getpid()))
            return
        except OSError:
            with suppress(OSError):
                folder.rmdir()
    raise SystemExit("cannot make a cgroup with a quota here; be root, with the cpu controller")
