"""Runs under the preloaded shim: cuts, faults and traces of the scenario, each in a forked child.

driver.py SHIM sweep ACTION STICKY EVERY     fail or kill at every (EVERY-th) call
driver.py SHIM kills N SEED                  kill at random instants, on one directory
driver.py SHIM cuts N SEED [BROKEN]          states that a power cut may leave, about N of them
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import powercut
import scenario

ACTIONS = {"kill": 1, "eio": 2, "enospc": 3, "short": 4, "eintr": 5}
_HANG_S = 30


def main() -> None:
    shim = ctypes.CDLL(sys.argv[1])
    command, *arguments = sys.argv[2:]
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=base) as root:
        if command == "sweep":
            action, sticky, every = arguments
            facts = sweep(shim, Path(root), action, sticky == "1", int(every))
        elif command == "kills":
            facts = kills(Path(root), int(arguments[0]), int(arguments[1]))
        else:
            n, seed, *broken = arguments
            facts = cuts(shim, Path(root), int(n), int(seed), broken[0] if broken else "")
    print(json.dumps(facts), file=sys.stderr)


def child(run, log: int = -1) -> tuple[int, bytes]:
    """Fork, run, and return the wait status and what was printed to fd 1."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(_HANG_S)
        os.close(reader)
        os.dup2(writer, 1)
        try:
            run()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        printed = pipe.read()
    return os.waitpid(pid, 0)[1], printed


def ack(facts: dict[str, object]) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def sweep(shim, root: Path, action: str, sticky: bool, every: int) -> dict[str, object]:
    """Fault each call in turn, in a store with a history; check, and go on with the same store."""
    history = root / "history"
    status, before = child(lambda: scenario.cycle(history / "state", ack))
    assert status == 0
    counted = root / "count"

    def counting() -> None:
        shutil.copytree(history, root / "counted")
        shim.plr_arm(str(root / "counted").encode(), 0, 0, 0, -1)
        scenario.cycle(root / "counted" / "state", ack)
        counted.write_text(str(shim.plr_count()))

    assert child(counting)[0] == 0
    n_calls, failures, runs = int(counted.read_text()), [], 0
    for n in range(1, n_calls + 1, every):
        work = root / "work"
        shutil.copytree(history, work)
        ok, status = _one_fault(shim, work, n, ACTIONS[action], int(sticky), before)
        if not ok:
            failures.append({"call": n, "status": status})
        runs += 1
        shutil.rmtree(work)
    return {"calls": n_calls, "runs": runs, "failures": failures}


def _one_fault(
    shim, work: Path, n: int, action: int, sticky: int, before: bytes
) -> tuple[bool, int]:
    """Run the cycle with a fault at call `n`; then check the store, and go on with it."""

    def faulted() -> None:
        shim.plr_arm(str(work).encode(), n, action, sticky, -1)
        scenario.cycle(work / "state", ack)

    def checked() -> None:
        scenario.check(work / "state", acks)
        scenario.cycle(work / "state", lambda facts: None)

    status, printed = child(faulted)
    acks = scenario.parse(before) + scenario.parse(printed)
    died = os.WIFSIGNALED(status) and action == ACTIONS["kill"]
    return (died or status == 0) and child(checked)[0] == 0, status


def kills(root: Path, n: int, seed: int) -> dict[str, object]:
    """Kill at a random instant of the measured cycle, or just after it; then go on."""
    rng, acks, failures, state = random.Random(seed), [], [], root / "state"
    started = time.monotonic()
    child(lambda: scenario.cycle(root / "measured", ack, n_labels=30))
    cycle_s = time.monotonic() - started
    for i in range(n):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(writer, 1)
            scenario.cycle(state, ack, n_labels=30)
            os._exit(0)
        os.close(writer)
        time.sleep(rng.uniform(0, 1.1 * cycle_s))
        os.kill(pid, signal.SIGKILL)
        with os.fdopen(reader, "rb") as pipe:
            acks += scenario.parse(pipe.read())
        os.waitpid(pid, 0)
        try:
            scenario.check(state, acks)
        except Exception as error:
            failures.append({"kill": i, "error": f"{type(error).__name__}: {error}"})
    taught = max((a["taught"] for a in acks if "taught" in a), default=0)
    return {"kills": n, "taught": taught, "failures": failures}


def cuts(shim, root: Path, n: int, seed: int, broken: str) -> dict[str, object]:
    """Trace the cycle, and the recovery from some of its cuts; check states a cut may leave."""
    if broken:
        powercut.BROKEN[broken]()
    rng = random.Random(seed)
    _, printed = child(lambda: scenario.cycle(root / "history" / "state", ack))
    history = (powercut.snapshot(root / "history"), scenario.parse(printed), 0)
    jobs: list[tuple[dict, list[dict[str, object]], int]] = [({}, [], 0), history]
    n_states, failures, seen = 0, [], set()
    while n_states < n:
        nested = []
        for start, acks, depth in jobs:
            trace = traced(shim, root, start, acks, depth)
            share = (0.3 * n if depth == 0 else 0.4 * n / len(jobs)) / (14 * len(trace))
            for model in ("posix", "ext4"):
                for state, more in powercut.states(trace, start, model, rng, share):
                    key = (powercut.digest(state), len(acks + more))
                    if key in seen:
                        continue
                    seen.add(key)
                    n_states += 1
                    if not holds(root, state, acks + more):
                        failures.append({"model": model, "acks": len(acks + more), "depth": depth})
                        if broken:
                            return {"states": n_states, "failures": failures}
                    elif depth < 2 and rng.random() < 20 / (1 + n_states):
                        nested.append((state, acks + more, depth + 1))
        jobs = nested or [({}, [], 0), history]
    return {"states": n_states, "failures": failures}


def traced(shim, root: Path, start: dict, acks: list, depth: int) -> list[powercut.Op]:
    """Run the cycle (or, deeper, a recovery and a little teaching) and return its calls."""
    work, log = root / "work", root / "log"
    powercut.materialise(start, work)

    def run() -> None:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        shim.plr_arm(str(work).encode(), 0, 0, 0, fd)
        scenario.cycle(work / "state", ack, n_labels=8 if depth == 0 else 2)

    status, _ = child(run)
    assert status == 0, status
    ops = powercut.read_log(log, work)
    shutil.rmtree(work)
    return ops


def holds(root: Path, state: dict, acks: list) -> bool:
    work = root / "work"
    powercut.materialise(state, work)
    try:
        if acks or (work / "state").exists():
            scenario.check(work / "state", acks)
        return True
    except Exception as error:  # whatever it is, the promise is broken
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return False
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
