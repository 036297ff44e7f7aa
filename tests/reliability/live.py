"""A robot at 30 frames a second: what training costs its frames, and a trainer that is tormented.

live.py BUNDLE STATE blocks N SECONDS [QUOTA]   training on and off in turns, N pairs of blocks;
                                                in a cgroup that has so much of one processor
live.py BUNDLE STATE torment N                  kill, stop or starve the trainer at N moments
live.py BUNDLE STATE teach STREAM N_CLASSES     from the last of 20 frames to a right answer, and to
                                                a version that has learned all of them
live.py BUNDLE STATE start N                    first prediction after N starts; memory; end
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from running import Running, frames_of, limit_processor, long_film

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.runtime.malloc import return_memory_at_once
from plr_edge.store import LEARNED, TRAIN
from plr_edge.stream.base import Frame

RATE, DEADLINE_MS = 30.0, 33.0
USED = (LEARNED, TRAIN)


def main() -> None:
    state, command, rest = Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
    if command == "start":
        print(json.dumps(starts(sys.argv[1], state, int(rest[0]))))
        return
    if command == "blocks" and len(rest) > 2:
        limit_processor(float(rest[2]))
    return_memory_at_once()
    sys.setswitchinterval(5e-4)  # as `plr-edge run`
    bundle = open_bundle(sys.argv[1])
    model = OnlineModel(bundle, state, LearningConfig())
    robot = Robot(model, Governor(Budget(deadline_ms=DEADLINE_MS), model.schedule, [0.02] * 5))
    if command == "teach":
        frames = frames_of(rest[0], int(rest[1]), 60)
    else:
        frames = frames_of("demo", 12, 30)
    loop = threading.Thread(target=robot.run)
    loop.start()
    if command != "teach":
        threading.Thread(target=robot.feed, args=(paced(robot, frames),), daemon=True).start()
    seen: list[tuple[float, float]] = []
    robot.listeners.append(
        lambda kind, facts: seen.append((facts["latency_ms"], facts["age_ms"]))
        if kind == "prediction" else None
    )  # fmt: skip
    try:
        if command == "teach":
            facts = teach(robot, frames)
        else:
            taught(robot, frames)
            facts = (
                blocks(robot, seen, int(rest[0]), float(rest[1]))
                if command == "blocks"
                else torment(robot, seen, int(rest[0]))
            )
    finally:
        robot.stop()
        loop.join()
        model.close()
    print(json.dumps(facts))


def paced(robot: Robot, frames: list[Frame]):
    """Give frames at their times; a late reader loses them, as with a camera."""
    start = time.monotonic()
    for i, frame in enumerate(itertools.cycle(frames)):
        if robot.stopping.wait(max(0.0, start + i / RATE - time.monotonic())):
            return
        yield Frame(frame.image, None, time.time_ns(), frame.source, i)


def taught(robot: Robot, frames: list[Frame]) -> None:
    names = dict.fromkeys(frame.label for frame in frames)
    for name in names:
        images = [f.image for f in frames if f.label == name]
        robot.call(lambda n=name, i=images: robot.requests.teach(n, images=i)).result(60)
    end = time.monotonic() + 300
    while robot.model.learned.version == 0 and time.monotonic() < end:
        time.sleep(0.1)


def keep_training(robot: Robot) -> None:
    """One label, so that the trainer has something to consolidate for 400 steps more."""
    if robot.model.trainer.report.get("to_go", 0) > 150:
        return
    image = robot.latest[0].image
    name = robot.model.learned.classes[0]
    robot.call(lambda: robot.requests.teach(name, images=[image])).result(10)


def blocks(robot: Robot, seen: list, n: int, seconds: float) -> dict[str, object]:
    results: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for i in range(2 * n):
        on = i % 2 == 0
        robot.call(lambda p=not on: robot.pause(p)).result(10)
        if on:
            keep_training(robot)
        time.sleep(0.5)
        dropped, begun = robot.stats.total("dropped"), resource.getrusage(resource.RUSAGE_SELF)
        seen.clear()
        steps, versions = sum(robot.model.trainer.n_steps), robot.model.learned.version
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 2.0))
            if on:
                keep_training(robot)
        latencies, ages = np.array(seen).T
        used = resource.getrusage(resource.RUSAGE_SELF)
        lost = robot.stats.total("dropped") - dropped
        results[on].append(
            {
                "p50_ms": float(np.percentile(latencies, 50)),
                "p99_ms": float(np.percentile(latencies, 99)),
                "missed": float((ages > DEADLINE_MS).sum() + lost) / (len(ages) + lost),
                "frames": len(ages),
                "steps": sum(robot.model.trainer.n_steps) - steps,
                "versions": robot.model.learned.version - versions,
                "voluntary": used.ru_nvcsw - begun.ru_nvcsw,
                "involuntary": used.ru_nivcsw - begun.ru_nivcsw,
            }
        )
    medians = {
        ("training" if on else "paused"): {
            key: float(np.median([row[key] for row in rows])) for key in rows[0]
        }
        for on, rows in results.items()
    }
    rng = np.random.default_rng(0)
    pairs = np.array([a["p99_ms"] - b["p99_ms"] for a, b in zip(*results.values(), strict=True)])
    draws = np.median(rng.choice(pairs, (2000, len(pairs))), axis=1)
    missed = [float(np.mean([r["missed"] for r in results[on]])) for on in (True, False)]
    return {
        **medians,
        "added_p99_ms": float(np.median(pairs)),
        "interval_ms": [float(x) for x in np.percentile(draws, [2.5, 97.5])],
        "missed_training": missed[0],
        "missed_paused": missed[1],
        "load": os.getloadavg()[0],
    }


def teach(robot: Robot, frames: list[Frame]) -> dict[str, object]:
    """Teach twenty frames of each class from the ring, as the camera shows them.

    The first question after it is the next frame of the same class.
    """
    robot.stats.deadline_ms = DEADLINE_MS
    by_class: dict[str, list[Frame]] = {}
    for frame in frames:
        by_class.setdefault(str(frame.label), []).append(frame)
    answered_ms, settled_ms, right, right_then = [], [], [], []
    for name, own in by_class.items():
        shown = [own[i % len(own)] for i in range(0, 42, 2)]  # a turn of 84 degrees or more
        for frame in shown[:-1]:
            wait_for_frame(robot, frame)
        start = time.perf_counter()
        robot.call(lambda n=name: robot.requests.teach(n, last=20)).result(10)
        (answer,) = robot.call(lambda f=shown[-1]: robot.requests.predict([f.image])).result(10)
        answered_ms.append((time.perf_counter() - start) * 1e3)
        right.append(answer["top"][0][0] == name)
        robot.model.workers.settle()  # until ridge has learned them
        (answer,) = robot.call(lambda f=shown[-1]: robot.requests.predict([f.image])).result(10)
        settled_ms.append((time.perf_counter() - start) * 1e3)
        right_then.append(answer["top"][0][0] == name)
    taught_at, first = time.monotonic(), None
    last_train = max(x.seq for x in robot.model.store.labels if (x.status, x.use) == USED)
    end = taught_at + 300
    while robot.model.trainer.report.get("to_go") != 0 or first is None:
        checkpoint = robot.model.checkpoint
        if first is None and checkpoint and checkpoint.upto == last_train:
            first = time.monotonic() - taught_at
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    late = [f for own in by_class.values() for f in own[1::2]]
    answers = [
        robot.call(lambda f=f: robot.requests.predict([f.image])).result(10)[0] for f in late
    ]
    known = [a["top"][0][0] == f.label for a, f in zip(answers, late, strict=True)]
    return {
        "classes": len(by_class),
        "labels": robot.model.store.last_seq,
        "answer_ms_median": float(np.median(answered_ms)),
        "answer_ms_most": float(max(answered_ms)),
        "right_at_once": float(np.mean(right)),
        "settled_ms_median": float(np.median(settled_ms)),
        "settled_ms_most": float(max(settled_ms)),
        "right_when_settled": float(np.mean(right_then)),
        "version_with_all_s": first,
        "versions": robot.model.learned.version,
        "right_after": float(np.mean(known)),
        "load": os.getloadavg()[0],
    }


def wait_for_frame(robot: Robot, frame: Frame) -> None:
    before = robot.stats.n_frames
    robot.put(Frame(frame.image, None, time.time_ns(), frame.source, 0))
    while robot.stats.n_frames == before:
        time.sleep(0.001)


def starts(bundle: str, state: Path, n: int) -> dict[str, object]:
    """Start, see the first frame, end; the second time with what the first has learned."""
    film = long_film(state.with_name(state.name + "-film"), frames_of("demo", 12, 30), 120)
    seen_s, api_s, ended_s, memory_mb = [], [], [], []
    for i in range(n):
        run = Running(bundle, state, str(film))
        seen_s.append(run.first_prediction_s)
        api_s.append(run.api_s)
        time.sleep(1)
        if i == 0:
            run.ask("POST", "/teach", {"label": "a", "last": 20})
            run.ask("POST", "/teach", {"label": "b", "last": 1})
            end = time.monotonic() + 60
            while not (run.health() or {"version": 0})["version"] and time.monotonic() < end:
                time.sleep(0.2)
        memory_mb.append(run.memory_mb()[0])
        ended_s.append(run.stop())
    return {
        "first_prediction_s": [round(x, 2) for x in seen_s],
        "api_s": [round(x, 2) for x in api_s],
        "pss_mb": [round(x) for x in memory_mb],
        "end_s": [round(x, 2) for x in ended_s],
        "load": os.getloadavg()[0],
    }


def torment(robot: Robot, seen: list, n: int) -> dict[str, object]:
    rng, counts = random.Random(0), {"kill": 0, "stop": 0, "starve": 0}
    time.sleep(2)
    quiet_from, dropped = robot.stats.n_frames, robot.stats.total("dropped")
    time.sleep(10)
    baseline = (robot.stats.total("dropped") - dropped) / max(robot.stats.n_frames - quiet_from, 1)
    start, dropped, done = robot.stats.n_frames, robot.stats.total("dropped"), 0
    began = time.monotonic()
    while done < n:
        trainer = robot.model.trainer.process
        trainer._deaths.clear()  # it deserves none of them
        trainer.given_up, trainer._again_at = False, 0.0
        time.sleep(rng.uniform(0, 1.0))
        child = trainer.child
        if child is None or child.poll() is not None:
            continue
        kind = rng.choice(list(counts))
        if kind == "kill":
            child.kill()
        elif kind == "stop":
            child.send_signal(signal.SIGSTOP)
            time.sleep(0.3)
            child.send_signal(signal.SIGCONT)
        else:  # no more memory than it has now
            size = 1 << 20
            resource.prlimit(child.pid, resource.RLIMIT_DATA, (size, size))
        if rng.random() < 0.3:
            keep_training(robot)
        counts[kind] += 1
        done += 1
    n_frames, lost = robot.stats.n_frames - start, robot.stats.total("dropped") - dropped
    return {
        **counts,
        "deaths": robot.model.trainer.process.n_deaths,
        "frames": n_frames,
        "expected": round(RATE * (time.monotonic() - began)),
        "dropped": lost,
        "dropped_share": lost / n_frames,
        "baseline_dropped_share": baseline,
    }


if __name__ == "__main__":
    main()
