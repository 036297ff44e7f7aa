"""A robot that answers 30 frames a second and is taught meanwhile, for an hour or so.

live_soak.py BUNDLE STATE SECONDS [LABELS_PER_S [UNDO_EVERY_S [FILL]]]

FILL labels are taught first, as fast as the robot takes them (30 a second): with as many as its
memory holds (9,000 of MobileNetV2 at 96 pixels in 8 MB) all caches are full, so that memory may not
grow any more.

Teaches what it is shown, one frame in two seconds by default, by the number of a frame that it has
just answered; undoes the last label once in a while. Looks at memory, threads, files, accuracy and
the bytes that reach the device.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
from running import RATE, Running, frames_of, long_film

from plr_edge.files import device_bytes_written

TEACH_EVERY_S, UNDO_EVERY_S = 2.0, 200.0
SETTLED_S = 600.0  # then everything is in memory


def main() -> None:
    bundle, state, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    teach_every_s = 1 / float(sys.argv[4]) if len(sys.argv) > 4 else TEACH_EVERY_S
    undo_every_s = float(sys.argv[5]) if len(sys.argv) > 5 else UNDO_EVERY_S
    frames = frames_of("demo", 12, 60)
    film = long_film(state.with_name(state.name + "-film"), frames, seconds + 900)
    run = Running(bundle, state, str(film), "--duty", "30%")
    viewer = Viewer(run, [str(frame.label) for frame in frames])
    looks, counts = [], {"taught": 0, "undone": 0, "refused": 0}
    every = max(seconds / 60, 2.0)
    try:
        fill(run, viewer, int(sys.argv[6]) if len(sys.argv) > 6 else 0)
        begun = time.monotonic()
        while (now := time.monotonic()) - begun < seconds and run.process.poll() is None:
            if now - begun >= every * len(looks):
                looks.append(look(run, viewer, now - begun))
            began = time.monotonic()
            teach(run, viewer, counts, round(undo_every_s / teach_every_s))
            time.sleep(max(0.0, teach_every_s - (time.monotonic() - began)))
        looks.append(look(run, viewer, time.monotonic() - begun))
        crashed = run.process.poll() is not None
        facts = run.health() or {}
        end_s = None if crashed else run.stop()
    finally:
        run.process.kill()
    print(json.dumps(summary(looks, counts, facts, crashed, end_s), indent=1))


def fill(run: Running, viewer: Viewer, n: int) -> None:
    """Teach many labels, in requests of 15 frames."""
    taught = 0
    while taught < n and run.process.poll() is None:
        if viewer.newest is None:
            time.sleep(0.1)
            continue
        body = {"label": viewer.newest[1], "last": 15}
        status, answer = run.ask("POST", "/teach", body)
        taught += answer["taught"] if status == 200 else 0
        time.sleep(0.25)


def teach(run: Running, viewer: Viewer, counts: dict[str, int], undo_every: int) -> None:
    if viewer.newest is None:
        return
    sequence, label = viewer.newest
    status, _ = run.ask("POST", "/teach", {"label": label, "sequence": sequence})
    counts["taught" if status == 200 else "refused"] += 1
    if counts["taught"] % undo_every == undo_every - 1:
        status, answer = run.ask("POST", "/undo", {"last": 1})
        counts["undone"] += answer["undone"] if status == 200 else 0
        counts["taught"] += 1  # so that it is undone once


def look(run: Running, viewer: Viewer, at_s: float) -> dict[str, object]:
    health, (pss, trainer) = run.health() or {}, run.memory_mb()
    folder = Path(f"/proc/{run.process.pid}")
    row = {
        "at_s": round(at_s),
        "pss_mb": round(pss, 1),
        "trainer_mb": round(trainer, 1),
        "files": len(list((folder / "fd").iterdir())),
        "threads": len(list((folder / "task").iterdir())),
        "right": viewer.right(),
        "device_bytes": device_bytes_written(folder / "io"),
        **{name: health.get(name) for name in (
            "frames", "dropped", "failed", "taught", "version", "latency_ms_p99", "state_bytes",
            "state",
        )},
        "deaths": health.get("trainer", {}).get("deaths"),
    }  # fmt: skip
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def summary(
    looks: list[dict], counts: dict[str, int], facts: dict, crashed: bool, end_s: float | None
) -> dict[str, object]:
    """Compare the second half with the first quarter of an hour, when everything is in memory."""
    late = looks[len(looks) // 4 :]
    hours = np.array([row["at_s"] / 3600 for row in late])
    slope = {
        name: round(float(np.polyfit(hours, [row[name] for row in late], 1)[0]), 2)
        for name in ("pss_mb", "trainer_mb", "files", "threads")
    } if len(late) > 3 else {}  # fmt: skip
    settled = [row for row in looks if row["at_s"] >= SETTLED_S]
    seconds = looks[-1]["at_s"] - looks[0]["at_s"]
    frames = looks[-1]["frames"] - looks[0]["frames"]
    return {
        "seconds": seconds,
        "crashed": crashed,
        "trainer_deaths": facts.get("trainer", {}).get("deaths"),
        "frames": frames,
        "frames_per_s": round(frames / max(seconds, 1), 2),
        "dropped_share": looks[-1]["dropped"] / max(seconds * RATE, 1),
        **counts,
        "versions": facts.get("version"),
        "rise_per_hour": slope,
        "rise_percent_per_hour": {
            name: percent(settled, name) for name in ("pss_mb", "trainer_mb")
        },
        "bytes_per_label": round(written(looks) / max(counts["taught"], 1)),
        "gb_per_day": round(written(looks) / max(seconds, 1) * 86_400 / 1e9, 2),
        "first": looks[0],
        "quarter": late[0],
        "last": looks[-1],
        "pss_mb_most": max(row["pss_mb"] for row in looks),
        "end_s": end_s,
        "load": os.getloadavg()[0],
    }


def percent(looks: list[dict], name: str) -> float | None:
    """Return by how much of its mean a value rises in an hour; None if there are few looks."""
    if len(looks) < 4:
        return None
    values = np.array([row[name] for row in looks])
    hours = np.array([row["at_s"] / 3600 for row in looks])
    return round(float(100 * np.polyfit(hours, values, 1)[0] / values.mean()), 2)


def written(looks: list[dict]) -> int:
    """Return the bytes that reached the device between the first look and the last."""
    return int(looks[-1]["device_bytes"] or 0) - int(looks[0]["device_bytes"] or 0)


class Viewer:
    """Listens to the events, and knows what each frame shows."""

    def __init__(self, run: Running, labels: list[str]) -> None:
        self.newest: tuple[int, str] | None = None
        self._right: deque[bool] = deque(maxlen=600)
        self._labels, self._run = labels, run
        threading.Thread(target=self._listen, daemon=True).start()

    def right(self) -> float | None:
        return round(float(np.mean(self._right)), 3) if self._right else None

    def _listen(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._run.port, timeout=60)
        connection.request("GET", "/events")
        kind = ""
        for line in connection.getresponse():
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                kind = text[7:]
            elif text.startswith("data: ") and kind == "prediction":
                facts = json.loads(text[6:])
                label = self._labels[int(Path(facts["source"]).stem)]
                self.newest = facts["sequence"], label
                self._right.append(facts["top"][:1] != [] and facts["top"][0][0] == label)


if __name__ == "__main__":
    main()
