"""A running robot, one good client, and many bad ones.

abuse.py BUNDLE STATE SECONDS
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from plr_edge.meters import process_memory

PORT = 8124


def main() -> None:
    bundle, state, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    process = subprocess.Popen(
        [sys.executable, "-m", "plr_edge", "run", bundle, "demo", "--state", str(state),
         "--listen", f"127.0.0.1:{PORT}", "--rate", "30"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and good("GET", "/health") is None:
            time.sleep(0.2)
        token = (state / "token").read_text()
        acknowledged, before = [0], good_p99(seconds / 4)
        memory = process_memory(process.pid)["pss_bytes"]
        stop = threading.Event()
        bad = [slow_bodies, connections, garbage, garbage, lambda s: flood(s, token, acknowledged)]
        threads = [threading.Thread(target=work, args=(stop,)) for work in bad]
        for thread in threads:
            thread.start()
        during = good_p99(seconds)
        stop.set()
        for thread in threads:
            thread.join(20)
        time.sleep(3)
        alive = process.poll() is None
        health = json.loads(good("GET", "/health") or b"{}")
        facts = {
            "alive": alive,
            "good_p99_before_ms": before,
            "good_p99_during_ms": during,
            "pss_before_mb": memory / 1e6,
            "pss_after_mb": process_memory(process.pid)["pss_bytes"] / 1e6,
            "acknowledged": acknowledged[0],
            "taught": health.get("taught", 0) + health.get("quarantined", 0),
            "state": health.get("state"),
            "frames_per_s": health.get("frames_per_s"),
        }
    finally:
        process.terminate()
        process.wait(10)
    print(json.dumps(facts))


def good(method: str, path: str, body: object = None, token: str = "") -> bytes | None:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    with suppress(OSError, http.client.HTTPException):
        connection.request(method, path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        data = response.read()
        return data if response.status == 200 else None
    return None


def good_p99(seconds: float) -> float:
    """Ask for health ten times a second; a refusal is asked again at once and counts as waiting."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        while good("GET", "/health") is None:
            if time.monotonic() > end + 10:
                break
            time.sleep(0.01)
        times.append(time.monotonic() - start)
        time.sleep(0.1)
    return float(1e3 * np.percentile(times, 99))


def slow_bodies(stop: threading.Event) -> None:
    """Fifty connections that send a byte a second."""
    held: list[socket.socket] = []
    while not stop.is_set():
        while len(held) < 50:
            with suppress(OSError):
                one = socket.create_connection(("127.0.0.1", PORT), 2)
                one.sendall(b"POST /teach HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
                held.append(one)
        for one in list(held):
            try:
                one.sendall(b"x")
            except OSError:
                held.remove(one)
        stop.wait(1.0)
    for one in held:
        one.close()


def connections(stop: threading.Event) -> None:
    """A thousand connections, opened and dropped."""
    while not stop.is_set():
        held = []
        for _ in range(200):
            with suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", PORT), 1))
        stop.wait(0.5)
        for one in held:
            one.close()


def garbage(stop: threading.Event) -> None:
    """Giant, nested, damaged and wrong bodies."""
    rng = random.Random(0)
    bodies = [
        b"[" * 100_000, b'{"images": ["' + b"A" * (6 << 20) + b'"]}', b"\xff" * 1000,
        b'{"last": NaN}', b'{"label": "a", "last": 1e999}',
        json.dumps({"images": [["x"]] * 30}).encode(),
    ]  # fmt: skip
    while not stop.is_set():
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            path = rng.choice(["/predict", "/teach", "/undo", "/../etc/passwd", "/-1.jpg"])
            connection.request("POST", path, rng.choice(bodies), {"X": "y" * rng.randrange(9000)})
            connection.getresponse().read()
            connection.close()
        stop.wait(0.05)


def flood(stop: threading.Event, token: str, acknowledged: list[int]) -> None:
    """One who may teach, and does not stop."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    body = {"label": "flood", "images": [base64.b64encode(stream.getvalue()).decode()]}
    while not stop.is_set():
        answer = good("POST", "/teach", body, token)
        acknowledged[0] += json.loads(answer)["taught"] if answer else 0


if __name__ == "__main__":
    main()
