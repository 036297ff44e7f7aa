"""A robot whose camera, process, trainer, disk and clock die at random, one after another.

deaths.py BUNDLE STATE N [SECONDS [SEED]]

The next death comes as soon as the robot is healthy again, until there were N of them or the time
is over. A thread does what the unit does: it starts the robot again whenever it ends, unless with
exit code 2. Nobody restarts anything by hand.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mjpeg_camera import jpeg

from plr_edge.store import Store
from plr_edge.stream import open_stream

FPS, RESTART_S, LIMIT_S = 10.0, 2.0, 120.0
DISK = "96m"
CLOCKS = (20.0, 1.55e9, 1.93e9, 4.07e9)  # 1970, 2019, 2031, 2098
HERE = Path(__file__).parent


def main() -> None:
    bundle, state, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 1e9
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    world = World(bundle, state)
    try:
        facts = deaths(world, n, seconds, seed)
    finally:
        world.close()
    print(json.dumps(facts, indent=1))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """A camera, a robot, its disk and its clock."""

    def __init__(self, bundle: str, state: Path) -> None:
        self.skipped: list[str] = []
        self.disk = state.with_name(state.name + "-disk")
        self.state = self._mounted() / "s"
        self.clock = state.with_name(state.name + "-clock")
        self.port, self._camera_port = free_port(), free_port()
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", **self._faked()}
        self.log = open(state.with_name(state.name + "-log"), "a")
        self.camera: subprocess.Popen[bytes] | None = None
        self.robot: subprocess.Popen[bytes] | None = None
        self.starts, self.ended, self.exits = 0, False, Counter[int]()
        self._command = [
            sys.executable, "-m", "plr_edge", "run", bundle,
            f"http://127.0.0.1:{self._camera_port}/video", "--state", str(self.state),
            "--listen", f"127.0.0.1:{self.port}",
        ]  # fmt: skip
        self.start_camera()
        self._unit = threading.Thread(target=self._keep_running)
        self._unit.start()

    def _mounted(self) -> Path:
        self.disk.mkdir(parents=True, exist_ok=True)
        options = ["-o", f"size={DISK},mode=700"]
        done = subprocess.run(
            ["mount", "-t", "tmpfs", *options, "plr-edge", str(self.disk)], capture_output=True
        )
        self.has_disk = done.returncode == 0
        if not self.has_disk:
            self.skipped.append("disk: no file system can be mounted here")
        return self.disk

    def _faked(self) -> dict[str, str]:
        """Return the environment of a process whose wall clock can be set."""
        compiler, library = shutil.which("cc"), self.clock.with_suffix(".so")
        self.has_clock = compiler is not None and sys.platform == "linux"
        if not self.has_clock:
            self.skipped.append("clock: there is no C compiler to put a clock below Python")
            return {}
        self.set_clock(None)
        source = str(HERE / "clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), source], check=True)
        return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self.clock)}

    def set_clock(self, seconds: float | None) -> None:
        """Let the wall clock of the robot show a Unix time, or the right one."""
        offset = 0 if seconds is None else round(seconds - time.time())
        with open(self.clock, "r+b" if self.clock.exists() else "wb") as file:
            file.write(struct.pack("q", offset))

    def start_camera(self) -> None:
        arguments = [str(self._camera_port), str(FPS)]
        self.camera = subprocess.Popen(
            [sys.executable, str(HERE / "mjpeg_camera.py"), *arguments], stderr=self.log
        )

    def _keep_running(self) -> None:
        while not self.ended:
            self.starts += 1
            self.robot = subprocess.Popen(
                self._command, env=self._environment, stderr=self.log, stdout=self.log
            )
            code = self.robot.wait()
            self.exits[code] += 1
            if code == 2:  # the unit would not start it again
                return
            time.sleep(RESTART_S)

    def fill_disk(self) -> None:
        with suppress(OSError), open(self.disk / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free_disk(self) -> None:
        (self.disk / "filler").unlink(missing_ok=True)

    def trainer(self) -> int | None:
        with suppress(OSError, AttributeError, IndexError):
            pid = self.robot.pid
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return None

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request. Returns the status, 0 if there was none, and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            headers = {"Content-Type": "application/json"}
            if body is not None:
                token = (self.state / "token").read_text().strip()
                headers["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body and json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        return self.ask("GET", "/health")[1] or {}

    def stop(self) -> None:
        """End the robot and the camera."""
        self.ended = True
        for process in (self.robot, self.camera):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()
        self._unit.join()

    def close(self) -> None:
        self.stop()
        self.log.close()
        if self.has_disk:
            subprocess.run(["umount", "-l", str(self.disk)], check=False)


class Watcher:
    """Looks once a second whether frames are answered, where camera and robot live."""

    def __init__(self, world: World) -> None:
        self._world, self._stop = world, threading.Event()
        self.due, self.answered = 0, 0
        self.quiet_until_s = 0.0  # no frame can come, and the time to come back is counted
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        before: int | None = None
        while not self._stop.wait(1.0):
            frames = self._world.health().get("frames")
            if time.monotonic() > self.quiet_until_s and before is not None:
                self.due += 1
                self.answered += frames is not None and frames != before
            before = frames


def deaths(world: World, n: int, seconds: float, seed: int) -> dict[str, object]:
    rng, begun = random.Random(seed), time.monotonic()
    images = {f.label: base64.b64encode(jpeg(f.image)).decode() for f in open_stream("demo")}
    kinds = {"camera killed": camera_killed, "camera hangs": camera_hangs, "robot": robot_killed,
             "trainer": trainer_killed}  # fmt: skip
    kinds |= {"disk full": disk_full} if world.has_disk else {}
    kinds |= {"clock": clock_jumps} if world.has_clock else {}
    acknowledged: dict[int, str] = {}
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    waited_s = wait_until_healthy(world)
    watcher, order = Watcher(world), list[str]()
    try:
        while sum(map(len, took.values())) < n and time.monotonic() - begun < seconds:
            order = order or rng.sample(list(kinds), len(kinds))
            kind = order.pop()
            start = time.monotonic()
            if kind not in ("trainer", "disk full", "clock"):
                watcher.quiet_until_s = start + LIMIT_S
            kinds[kind](world, rng, watcher)
            wait_until_healthy(world)
            took[kind].append(time.monotonic() - start)
            watcher.quiet_until_s = time.monotonic() + 0.5
            teach(world, rng, images, acknowledged)
    finally:
        watcher.stop()
    world.set_clock(None)
    health = world.health()
    world.stop()
    n_lost = count_lost(world.state, acknowledged)
    all_s = [s for each in took.values() for s in each]
    return {
        "deaths": len(all_s),
        "of_each": {kind: len(each) for kind, each in took.items()},
        "first_healthy_s": round(waited_s, 1),
        "healthy_again_s": {
            kind: [round(float(np.median(each)), 1), round(max(each), 1)]
            for kind, each in took.items() if each
        },
        "seconds_watched": watcher.due,
        "seconds_with_frames": watcher.answered,
        "acknowledged": len(acknowledged),
        "lost": n_lost,
        "starts": world.starts,
        "exits": {str(code): k for code, k in world.exits.items()},
        "skipped": world.skipped,
        "state": health.get("state"),
        "seconds": round(time.monotonic() - begun),
    }  # fmt: skip


def wait_until_healthy(world: World) -> float:
    """Wait until frames are answered, labels are taken and the trainer runs.

    Raises:
        SystemExit: that takes too long.
    """
    start = time.monotonic()
    last, facts = None, dict[str, Any]()
    while time.monotonic() - start < LIMIT_S:
        facts = world.health()
        frames, trainer = facts.get("frames"), facts.get("trainer", {}).get("alive")
        good = facts.get("serves") and facts.get("state") != "degraded" and trainer
        if good and last is not None and frames is not None and frames > last:
            return time.monotonic() - start
        last = frames if good else None
        time.sleep(0.1)
    raise SystemExit(f"not healthy after {LIMIT_S} s: {facts}; exits {world.exits}")


def teach(
    world: World, rng: random.Random, images: dict[str, str], acknowledged: dict[int, str]
) -> None:
    """Teach an image, with a key, until that is acknowledged."""
    label = rng.choice(list(images))
    body = {"label": label, "images": [images[label]], "key": f"k{len(acknowledged)}"}
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        status, answer = world.ask("POST", "/teach", body)
        if status == 200:
            assert answer["first"] not in acknowledged, "a number was given twice"
            acknowledged[answer["first"]] = label
            return
        time.sleep(0.2)
    raise SystemExit(f"a label was not taken for {LIMIT_S} s: {status} {answer}")


def count_lost(state: Path, acknowledged: dict[int, str]) -> int:
    """Count labels that were acknowledged and are not there, or are another, or are there twice."""
    with Store(state) as store:
        kept = {label.seq: label.name for label in store.labels}
    wrong = sum(kept.get(seq) != name for seq, name in acknowledged.items())
    return wrong + len(kept.keys() - acknowledged.keys())


# the deaths


def camera_killed(world: World, rng: random.Random, watcher: Watcher) -> None:
    world.camera.kill()
    world.camera.wait()
    time.sleep(rng.uniform(0.1, 5.0))
    world.start_camera()


def camera_hangs(world: World, rng: random.Random, watcher: Watcher) -> None:
    world.camera.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(4.0, 8.0))
    world.camera.send_signal(signal.SIGCONT)


def robot_killed(world: World, rng: random.Random, watcher: Watcher) -> None:
    robot = world.robot
    robot.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
    robot.wait()
    time.sleep(rng.uniform(0.0, RESTART_S + 1.0))


def trainer_killed(world: World, rng: random.Random, watcher: Watcher) -> None:
    pid = world.trainer()
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)


def disk_full(world: World, rng: random.Random, watcher: Watcher) -> None:
    """Fill the disk. Now and then the robot dies meanwhile, and starts on the full disk."""
    world.fill_disk()
    if rng.random() < 0.5:
        watcher.quiet_until_s = time.monotonic() + LIMIT_S
        robot_killed(world, rng, watcher)
    time.sleep(rng.uniform(0.5, 3.0))
    world.free_disk()


def clock_jumps(world: World, rng: random.Random, watcher: Watcher) -> None:
    world.set_clock(rng.choice([None, *CLOCKS]))
    time.sleep(rng.uniform(0.1, 1.5))


if __name__ == "__main__":
    main()
