"""How soon a robot answers after a start with many labels.

restarts.py BUNDLE STATE N SAVED STARTS [STREAM ...]

Teaches N labels of real streams to a state, writes a generation after SAVED of them (0 for none),
and is killed. Then starts `plr-edge run` on copies of it, with a film at 30 frames a second, and
kills it: seconds to the first prediction, and until every label answers.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from running import Running, frames_of, long_film

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.stream import open_stream
from plr_edge.stream.base import Frame

TOGETHER = 8  # frames of a request
LONGEST_S = 120.0


def main() -> None:
    bundle, state = sys.argv[1], Path(sys.argv[2])
    n, saved, n_starts = map(int, sys.argv[3:6])
    streams = sys.argv[6:] or ["demo"]
    if n_starts < 0:
        fill(bundle, state, n, saved, streams)
    if not state.exists():
        command = [sys.executable, __file__, bundle, str(state), str(n), str(saved), "-1", *streams]
        done = subprocess.run(command, check=False)  # it kills itself
        assert done.returncode == -signal.SIGKILL
    film = long_film(state.with_name(state.name + "-film"), frames_of("demo", 12, 30), 300)
    rows = [started(bundle, state, film) for _ in range(n_starts)]
    facts = {name: [row[name] for row in rows] for name in rows[0]}
    print(json.dumps({**facts, "load": round(os.getloadavg()[0], 1)}))


def batches(streams: list[str]) -> Iterator[tuple[str, list[Frame]]]:
    """Yield frames of one class, class after class, for ever; a second round is a second visit."""
    by_class: dict[str, list[Frame]] = {}
    for stream in streams:
        for frame in open_stream(stream):
            by_class.setdefault(str(frame.label), []).append(frame)
    for turn in itertools.count():
        for name, frames in by_class.items():
            start = turn * TOGETHER
            yield name, [frames[i % len(frames)] for i in range(start, start + TOGETHER)]


def fill(bundle: str, state: Path, n: int, saved: int, streams: list[str]) -> None:
    """Teach `n` labels as a robot does, without training, and end by a kill."""
    model = OnlineModel(open_bundle(bundle), state, LearningConfig())
    robot = Robot(model, Governor(Budget(), model.schedule, [0.02] * len(model.bundle.levels)))
    robot.governor_loop.paused = True
    model._autosave.is_due = lambda *_: False
    threading.Thread(target=robot.run, daemon=True).start()
    for name, frames in batches(streams):
        images = [frame.image for frame in frames]
        robot.call(lambda n=name, i=images: robot.requests.teach(n, images=i)).result(60)
        if saved and model.last_seq >= saved:
            assert robot.call(robot.requests.save).result(60)["saved"]
            saved = 0
        if model.last_seq >= n:
            break
    os.kill(os.getpid(), signal.SIGKILL)


def started(bundle: str, state: Path, film: Path) -> dict[str, float]:
    """Start once, and look until every label answers."""
    copy = state.with_name(state.name + "-started")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(state, copy)
    os.sync()
    began = time.monotonic()
    run = Running(bundle, copy, str(film))
    try:
        while time.monotonic() - began < LONGEST_S:
            facts = run.health() or {"reason": "again"}
            if "again" not in facts["reason"]:
                break
            time.sleep(0.02)
        all_s = time.monotonic() - began
    finally:
        run.process.kill()
        run.process.wait()
    return {
        "first_prediction_s": round(run.first_prediction_s, 2),
        "every_label_s": round(all_s, 2),
        "labels": facts["taught"],
    }


if __name__ == "__main__":
    main()
