"""Faults and kills at every call; each run in a child that is forked."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import commands
import scenario
from children import ack, child

ACTIONS = {
    "kill": 1, "eio": 2, "enospc": 3, "short": 4, "eintr": 5, "edquot": 6, "erofs": 7,
    "read eio": 8, "read short": 9,
}  # fmt: skip


def counted(shim, root: Path, start: Path, action: int, run) -> int:
    """Return how many calls a run makes on a copy of a directory."""
    number = root / "count"

    def counting() -> None:
        shutil.copytree(start, root / "counted")
        shim.plr_arm(str(root / "counted").encode(), 0, action, 0, -1)
        run(root / "counted" / "state")
        number.write_text(str(shim.plr_count()))

    assert child(counting)[0] == 0
    shutil.rmtree(root / "counted")
    return int(number.read_text())


def sweep(
    shim, root: Path, action: str, again: int, every: int, first: int = 1
) -> dict[str, object]:
    """Fault each call in turn, in a store with a history; check, and go on with the same store."""
    history = root / "history"
    status, before = child(lambda: scenario.cycle(history / "state", ack))
    assert status == 0
    n_calls = counted(shim, root, history, ACTIONS[action], lambda path: scenario.cycle(path, ack))
    failures, runs = [], 0
    for n in range(first, n_calls + 1, every):
        work = root / "work"
        shutil.copytree(history, work)
        ok, status = _one_fault(shim, work, n, ACTIONS[action], again, before)
        if not ok:
            failures.append({"call": n, "status": status})
        runs += 1
        shutil.rmtree(work)
    return {"calls": n_calls, "runs": runs, "failures": failures}


def _one_fault(
    shim, work: Path, n: int, action: int, again: int, before: bytes
) -> tuple[bool, int]:
    """Run the cycle with a fault at call `n`; then check the store, and go on with it."""

    def faulted() -> None:
        shim.plr_arm(str(work).encode(), n, action, again, -1)
        scenario.cycle(work / "state", ack)

    def checked() -> None:
        scenario.check(work / "state", acks)
        scenario.cycle(work / "state", lambda facts: None)

    status, printed = child(faulted)
    acks = scenario.parse(before) + scenario.parse(printed)
    return _ended(status, action) and child(checked)[0] == 0, status


def _ended(status: int, action: int) -> bool:
    """Whether a faulted run ended as it should."""
    return status == 0 or (os.WIFSIGNALED(status) and action == ACTIONS["kill"])


def sweep_commands(shim, root: Path, action: str, again: int, every: int) -> dict[str, object]:
    """Fault each call of each command in turn."""
    failures, runs = [], {}
    for name in commands.COMMANDS:
        start = root / name.replace(" ", "-")
        assert child(lambda n=name, s=start: commands.prepare(n, s / "state"))[0] == 0
        n_calls = counted(
            shim, root, start, ACTIONS[action],
            lambda path, n=name: commands.attempt(n, path, ack),
        )  # fmt: skip
        runs[name] = len(range(1, n_calls + 1, every))
        for n in range(1, n_calls + 1, every):
            work = root / "work"
            shutil.copytree(start, work)

            def faulted(work: Path = work, n: int = n, name: str = name) -> None:
                shim.plr_arm(str(work).encode(), n, ACTIONS[action], again, -1)
                commands.attempt(name, work / "state", ack)

            status, printed = child(faulted)
            done = bool(scenario.parse(printed))
            checked = child(lambda w=work, n=name, d=done: commands.check(n, w / "state", d))[0]
            if not _ended(status, ACTIONS[action]) or checked:
                failures.append({"command": name, "call": n, "status": status})
            shutil.rmtree(work)
    return {"runs": runs, "failures": failures}


def nested(shim, root: Path, every: int, step: int) -> dict[str, object]:
    """Kill the cycle, the recovery from that, and the recovery from this, at every call.

    Of the cycle `every` so many-th call, of the second recovery each `step`-th.
    """
    history = root / "history"
    status, before = child(lambda: scenario.cycle(history / "state", ack))
    assert status == 0
    n_calls = counted(shim, root, history, 1, lambda path: scenario.cycle(path, ack))
    facts: dict = {"calls": n_calls, "runs": 0, "failures": []}
    for n in range(1, n_calls + 1, every):
        work = root / "0"
        shutil.copytree(history, work)
        acks = scenario.parse(before) + _killed(shim, work, n, scenario.cycle)
        _nest(shim, root, 1, step, acks, facts)
        shutil.rmtree(work)
    return facts


def _nest(shim, root: Path, depth: int, step: int, acks: list, facts: dict) -> None:
    above, work, looked_at = root / str(depth - 1), root / str(depth), root / "looked-at"
    for n in range(1, 1_000, step if depth == 2 else 1):
        shutil.copytree(above, work)
        more = _killed(shim, work, n, scenario.recovery)
        facts["runs"] += 1
        shutil.copytree(work / "state", looked_at)
        if child(lambda m=more: scenario.check(looked_at, acks + m))[0]:
            facts["failures"].append({"depth": depth, "call": n})
        shutil.rmtree(looked_at)
        if depth < 2:
            _nest(shim, root, depth + 1, step, acks + more, facts)
        shutil.rmtree(work)
        if more and "closed" in more[-1]:  # it came to its end before call n
            return


def _killed(shim, work: Path, n: int, run) -> list:
    """Run until call `n` on a directory; returns what was acknowledged."""

    def until() -> None:
        shim.plr_arm(str(work).encode(), n, ACTIONS["kill"], 0, -1)
        run(work / "state", ack)

    return scenario.parse(child(until)[1])


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
