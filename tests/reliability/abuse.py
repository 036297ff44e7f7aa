"""A running robot, one good client, and many bad ones.

abuse.py BUNDLE STATE SECONDS [KIND...]      all kinds of bad ones, or some

The good client has the viewer's token. It asks ten times a second, a quarter of the time before the
bad ones come, then beside them. From a minute on the bad ones run at the lowest priority, and where
that is allowed in a cgroup of their own with half a core: what is measured is what they make the
robot do, not that they share its processors.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from running import Running, confine, frames_of, long_film

KINDS = (
    "slow_bodies", "slow_headers", "connections", "garbage", "predictions", "largest", "guesses",
    "listeners", "flood",
)  # fmt: skip
EVERY_S, CONNECTIONS, _SHARE = 0.1, 1000, 0.5
_SETTLED_S, _MEASURED_S, _HEALTHY_S, _END_S = 5.0, 60.0, 60.0, 30


def main() -> None:
    if sys.argv[1] == "bad":
        Attack.begin(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
        return
    if sys.argv[1] == "good":
        print(json.dumps(good_times(int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])))
        return
    bundle, state, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    kinds = sys.argv[4:] or KINDS
    film = long_film(state.with_name(state.name + "-film"), frames_of("demo", 12, 30),
                     1.5 * seconds + 120)  # fmt: skip
    run = Running(bundle, state, str(film))
    try:
        facts = abused(run, seconds, kinds)
        facts["end_s"] = round(run.stop(), 2)
    finally:
        run.process.kill()
    print(json.dumps(facts))


def abused(run: Running, seconds: float, kinds: Sequence[str]) -> dict[str, Any]:
    while (run.health() or {"frames": 0})["frames"] < 20:
        time.sleep(0.05)
    time.sleep(min(_SETTLED_S, seconds / 4))
    first = run.ask("POST", "/teach", {"label": "before", "last": 20})[1]["taught"]
    before, memory = good(run, seconds / 4), [run.memory_mb()[0]]
    attack = Attack(run, kinds, apart=seconds >= _MEASURED_S)
    watching = threading.Event()
    thread = threading.Thread(target=watch, args=(run, memory, watching))
    thread.start()
    frames = (run.health() or {})["frames"]
    began = time.monotonic()
    during = good(run, seconds)
    answered = ((run.health() or {})["frames"] - frames) / (time.monotonic() - began)
    watching.set()
    thread.join()
    counts = attack.end()
    time.sleep(min(_SETTLED_S, seconds / 4))
    health, flood = healthy(run), counts.get("flood", {})
    return {
        "before": before,
        "during": during,
        "times_p99": round(during["p99_ms"] / before["p99_ms"], 2),
        "frames_per_s": round(answered, 1),
        "pss_mb_before": round(memory[0]),
        "pss_mb_most": round(max(memory)),
        "pss_mb_after": round(run.memory_mb()[0]),
        "acknowledged": flood.get("taught", 0) + first,
        # answered later, or by nobody in time: these labels may be kept or not
        "open": flood.get("202", 0) + flood.get("0", 0),
        "kept": health.get("taught", 0) + health.get("quarantined", 0),
        "bad": counts,
        "in_a_cgroup": attack.confined,
        "state": health.get("state"),
        "reason": health.get("reason"),
        "load": os.getloadavg()[0],
    }


def healthy(run: Running) -> dict[str, Any]:
    """Return what it says of itself, once it is healthy again; after a minute, whatever it says."""
    end = time.monotonic() + _HEALTHY_S
    while (health := run.health() or {}).get("state", "degraded") == "degraded":
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return health


class Attack:
    """The bad ones: one process that loads the libraries, and a fork of it for each kind.

    Attributes:
        confined: whether they have a cgroup of their own.
    """

    def __init__(self, run: Running, kinds: Sequence[str], *, apart: bool) -> None:
        """Begin, `apart` from what the robot has of the processors."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, "bad", str(run.port), run.token, *kinds],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        pids = json.loads(self._process.stdout.readline())
        for pid in pids if apart else ():
            os.setpriority(os.PRIO_PROCESS, pid, 19)
        self.confined = apart and confine(pids, _SHARE)

    def end(self) -> dict[str, dict[str, int]]:
        """End it, and return what each kind has counted."""
        counts: dict[str, dict[str, int]] = json.loads(self._process.communicate()[0])
        return counts

    @staticmethod
    def begin(port: int, token: str, kinds: Sequence[str]) -> None:
        """Attack until the standard input ends. Prints the processes, then what they counted."""
        pids, outputs = list[int](), list[int]()
        for kind in kinds:
            output, own = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.dup2(own, 1)
                globals()[kind](port, token)
                sys.stdout.flush()
                os._exit(0)
            os.close(own)
            pids.append(pid)
            outputs.append(output)
        print(json.dumps(pids), flush=True)
        sys.stdin.read()
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        texts = [open(output).read() for output in outputs]
        print(json.dumps(dict(zip(kinds, [json.loads(x or "{}") for x in texts], strict=True))))


def watch(run: Running, memory: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        memory.append(run.memory_mb()[0])


def good(run: Running, seconds: float) -> dict[str, float]:
    token = (run.state / "viewer-token").read_text()
    done = subprocess.run(
        [sys.executable, __file__, "good", str(run.port), str(seconds), token],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def good_times(port: int, seconds: float, token: str) -> dict[str, float]:
    """Ask for health, and for an answer to an image, in turns; a refusal is asked again at once.

    The time of a question is that until it was answered.
    """
    body = {"images": [picture(0)]}
    times: dict[str, list[float]] = {"/health": [], "/predict": []}
    end, n_refused, n_late, i = time.monotonic() + seconds, 0, 0, 0
    while time.monotonic() < end:
        path = ("/health", "/predict")[i % 2]
        start = time.monotonic()
        payload = body if path == "/predict" else None
        while (answer := send(port, path, payload, token))[0] != 200:
            late = answer[0] == 0 or b"busy" in answer[1]  # no answer in ten seconds
            n_late, n_refused = n_late + late, n_refused + (not late)
            time.sleep(0.01)
            if time.monotonic() > end + 10:
                break
        times[path].append(1e3 * (time.monotonic() - start))
        i += 1
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - start)))
    every = times["/health"] + times["/predict"]
    return {
        "n": len(every),
        "refused": n_refused,
        "late": n_late,
        "p50_ms": round(float(np.percentile(every, 50)), 1),
        "p99_ms": round(float(np.percentile(every, 99)), 1),
        "health_p99_ms": round(float(np.percentile(times["/health"], 99)), 1),
        "predict_p99_ms": round(float(np.percentile(times["/predict"], 99)), 1),
        "most_ms": round(max(every), 1),
    }


def send(port: int, path: str, body: object = None, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        payload = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, payload, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def picture(seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


class Until:
    """Runs until it is told to end, then prints what was counted."""

    def __init__(self) -> None:
        self.ended = False  # not an event: setting one in a handler waits for its own lock for ever
        self.counts: dict[str, int] = {}
        signal.signal(signal.SIGTERM, self._end)

    def count(self, name: str, n: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + n

    def over(self, wait_s: float) -> bool:
        time.sleep(wait_s)
        if self.ended:
            print(json.dumps(self.counts), flush=True)
        return self.ended

    def _end(self, *_: object) -> None:
        self.ended = True
        signal.alarm(_END_S)  # then it is killed, whatever it waits for


def slow_bodies(port: int, token: str) -> None:
    """Fifty connections that send a byte of a large body a second, half of them with the token."""
    head = "POST /{} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 1000000\r\n\r\n"
    heads = [head.format("predict", ""), head.format("teach", f"Authorization: Bearer {token}\r\n")]
    drip(port, [text.encode() for text in heads], b"x", 50)


def slow_headers(port: int, token: str) -> None:
    """Fifty connections that send a byte of a header a second."""
    drip(port, [b"GET /health HTTP/1.1\r\nX: "], b"x", 50)


def drip(port: int, heads: list[bytes], byte: bytes, n: int) -> None:
    until, held = Until(), list[socket.socket]()
    while not until.over(1.0):
        while len(held) < n:
            one = connected(port)
            if one is None:
                break
            with suppress(OSError):
                one.sendall(heads[len(held) % len(heads)])
            held.append(one)
            until.count("opened")
        for one in list(held):
            try:
                one.sendall(byte)
            except OSError:
                held.remove(one)
                until.count("closed")


def connections(port: int, token: str) -> None:
    """A thousand connections that say nothing, opened again when they are closed."""
    until, held = Until(), list[socket.socket]()
    while not until.over(0.02):
        ended = ready(held)
        for one in ended:
            one.close()
            held.remove(one)
        for _ in range(min(10, CONNECTIONS - len(held))):
            one = connected(port)
            if one is None:
                break
            held.append(one)
            until.count("opened")
        until.counts["at once"] = max(until.counts.get("at once", 0), len(held))


def ready(held: list[socket.socket]) -> list[socket.socket]:
    """Return those that the other side has closed; it never says anything to these."""
    poll = select.poll()  # `select` takes no descriptor above 1023
    by_number = {one.fileno(): one for one in held}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(0)]


def connected(port: int) -> socket.socket | None:
    with suppress(OSError):
        return socket.create_connection(("127.0.0.1", port), 2)
    return None


def garbage(port: int, token: str) -> None:
    """Giant, nested, damaged and wrong bodies, with and without the token."""
    rng, until = random.Random(0), Until()
    bodies = [
        b"[" * 100_000, b'{"images": ["' + b"A" * (6 << 20) + b'"]}', b"\xff" * 1000,
        b'{"images": ["' + b"A" * 1_000_000 + b'"]}', b'{"last": NaN}', b"",
        b'{"label": "a", "last": 1e999}', b'{"images": {"a": 1}}', b'{"label": 1, "label": 2}',
        json.dumps({"images": [["x"]] * 30}).encode(),
    ]  # fmt: skip
    while not until.over(0.05):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            path = rng.choice(["/predict", "/teach", "/undo", "/../etc/passwd", "/-1.jpg"])
            headers = {"X": "y" * rng.randrange(20_000)}
            if rng.random() < 0.5:
                headers["Authorization"] = f"Bearer {token}"
            connection.request("POST", path, rng.choice(bodies), headers)
            response = connection.getresponse()
            response.read()
            until.count(str(response.status))
        connection.close()


def predictions(port: int, token: str) -> None:
    """One who asks about images without a pause."""
    until, body = Until(), {"images": [picture(1)] * 8}
    while not until.over(0.0):
        until.count(str(send(port, "/predict", body)[0]))


def largest(port: int, token: str) -> None:
    """Eight who ask at once about the largest images that are read."""
    stream = io.BytesIO()
    Image.new("RGBA", (2040, 1560)).save(stream, "PNG")
    body = {"images": [base64.b64encode(stream.getvalue()).decode()] * 8}
    until = Until()

    def ask() -> None:
        while True:
            until.count(str(send(port, "/predict", body)[0]))

    for _ in range(8):
        threading.Thread(target=ask, daemon=True).start()
    while not until.over(1.0):
        pass


def guesses(port: int, token: str) -> None:
    """One who guesses tokens without a pause."""
    until = Until()
    while not until.over(0.0):
        guess = f"{random.getrandbits(128):032x}"
        until.count(str(send(port, "/undo", {"last": 1}, guess)[0]))


def listeners(port: int, token: str) -> None:
    """Thirty-two who ask for events and read none."""
    drip(port, [b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"], b"", 32)


def flood(port: int, token: str) -> None:
    """One who may teach, and does not stop."""
    until, body = Until(), {"label": "flood", "images": [picture(2)]}
    until.counts["taught"] = 0
    while not until.over(0.0):
        status, answer = send(port, "/teach", body, token)
        until.count(str(status))
        if status == 200:
            until.count("taught", json.loads(answer)["taught"])


if __name__ == "__main__":
    main()
