"""Power cuts: what they may leave of a cycle, of a command, of a recovery; and a look at each."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import commands
import powercut
import scenario
from children import ack, child, holds

from plr_edge.bundle.manifest import FILES, read_verified
from plr_edge.bundle.write import write_bundle


def cuts(shim, root: Path, n: int, seed: int, broken: str = "") -> dict[str, object]:
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
                    if not holds(root, state, lambda p, a=acks + more: scenario.check(p, a)):
                        failures.append({"model": model, "acks": len(acks + more), "depth": depth})
                        if broken:
                            return {"states": n_states, "failures": failures}
                    elif depth < 2 and rng.random() < 20 / (1 + n_states):
                        nested.append((state, acks + more, depth + 1))
        jobs = nested or [({}, [], 0), history]
    return {"states": n_states, "failures": failures}


def traced(shim, root: Path, start: dict, acks: list, depth: int) -> list[powercut.Op]:
    """Run the cycle (or, deeper, a recovery and a little teaching) and return its calls."""
    n_labels = 8 if depth == 0 else 2
    return calls_of(shim, root, start, lambda path: scenario.cycle(path, ack, n_labels=n_labels))


def calls_of(shim, root: Path, start: dict, run) -> list[powercut.Op]:
    """Run something on a disk, and return the calls that it made."""
    work, log = root / "work", root / "log"
    powercut.materialise(start, work)

    def logged() -> None:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        shim.plr_arm(str(work).encode(), 0, 0, 0, fd)
        run(work / "state")

    status, _ = child(logged)
    assert status == 0, status
    ops = powercut.read_log(log, work)
    shutil.rmtree(work)
    return ops


def command_cuts(shim, root: Path, share: float, seed: int, broken: str = "") -> dict[str, object]:
    """Cut the power in undo, forget, rollback, confirm and repair, at every call."""
    if broken:
        powercut.BROKEN[broken]()
    rng, failures, n_states = random.Random(seed), [], {}
    for name in commands.COMMANDS:
        first = root / name.replace(" ", "-")
        assert child(lambda n=name, f=first: commands.prepare(n, f / "state"))[0] == 0
        start = powercut.snapshot(first)
        ops = calls_of(shim, root, start, lambda path, n=name: commands.attempt(n, path, ack))
        seen = set()
        for model in ("posix", "ext4"):
            for state, acks in powercut.states(ops, start, model, rng, share):
                key = (powercut.digest(state), len(acks))
                if key in seen:
                    continue
                seen.add(key)
                if not holds(root, state, lambda p, n=name, a=acks: commands.check(n, p, bool(a))):
                    failures.append({"command": name, "model": model, "acks": len(acks)})
        n_states[name] = len(seen)
    return {"states": n_states, "failures": failures}


def nested_cuts(shim, root: Path, n: int, step: int, seed: int) -> dict[str, object]:
    """Cut the power in the recovery from `n` cuts, and in that from each `step`-th of these."""
    rng, seen = random.Random(seed), set()
    _, printed = child(lambda: scenario.cycle(root / "history" / "state", ack))
    start, acks = powercut.snapshot(root / "history"), scenario.parse(printed)
    ops = traced(shim, root, start, acks, 0)
    facts: dict = {"states": 0, "failures": []}
    everything = list(powercut.states(ops, start, "posix", rng, 1.0))
    for state, more in rng.sample(everything, n):
        _nest_cuts(shim, root, state, acks + more, step, rng, seen, facts)
    return facts


def _nest_cuts(
    shim, root: Path, start: dict, acks: list, step: int, rng, seen: set, facts: dict
) -> None:
    """Look at each cut of a recovery; from each `step`-th of them recover again, 0 is none."""
    ops = calls_of(shim, root, start, lambda path: scenario.recovery(path, ack))
    new = 0
    for model in ("posix", "ext4"):
        for state, more in powercut.states(ops, start, model, rng, 1.0):
            key = (powercut.digest(state), len(acks + more))
            if key in seen:
                continue
            seen.add(key)
            facts["states"] += 1
            if not holds(root, state, lambda p, a=acks + more: scenario.check(p, a)):
                facts["failures"].append({"model": model, "step": step})
            if step and new % step == 0:
                _nest_cuts(shim, root, state, acks + more, 0, rng, seen, facts)
            new += 1


def bundle_cuts(shim, root: Path, share: float, seed: int, broken: str = "") -> dict[str, object]:
    """Cut the power while a bundle is written where an older one lies."""
    if broken:
        powercut.BROKEN[broken]()
    rng, failures, seen = random.Random(seed), [], set()

    def written(path: Path, force: bool) -> None:
        files = {name: name.encode() * (3_000 + 2_000 * force) for name in FILES}
        write_bundle(path, files, {"cut": str(force)}, force=force)
        ack({"written": True})

    (root / "first").mkdir()
    assert child(lambda: written(root / "first" / "state", False))[0] == 0
    start = powercut.snapshot(root / "first")
    ops = calls_of(shim, root, start, lambda path: written(path, True))

    def check(path: Path, done: bool) -> None:
        others = [p for p in path.parent.iterdir() if (p / "manifest.json").exists()]
        cuts = [read_verified(p)[0]["cut"] for p in ([path] if path.exists() else others)]
        assert "True" in cuts if done else cuts, "neither the old one nor the new one is there"

    for model in ("posix", "ext4"):
        for state, acks in powercut.states(ops, start, model, rng, share):
            key = (powercut.digest(state), len(acks))
            if key not in seen:
                seen.add(key)
                if not holds(root, state, lambda p, a=acks: check(p, bool(a))):
                    failures.append({"model": model, "acks": len(acks)})
    return {"states": len(seen), "failures": failures}
