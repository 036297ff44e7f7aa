"""The trainer process: latents in, candidates out; torch. May be killed at any instant.

Started as `python -m plr_edge.runtime.trainer FD`. Knows no store and no frame: what it forgets
when it dies, perception tells it again.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle import open_bundle
from plr_edge.config import AdaptConfig
from plr_edge.learner import Learner
from plr_edge.memory import LatentMemory
from plr_edge.runtime.canary import SEQ_BYTES
from plr_edge.runtime.messages import group, named, pack, unpack
from plr_edge.runtime.session import adaptive_blocks
from plr_edge.schedule import Schedule, make_schedule

_OFFER_EVERY_S = 5.0
_CONSOLIDATE_STEPS = 400  # after the last label; then there is nothing more to gain
_REPORT_EVERY_S = 0.5
_LONGEST_WAIT_S = 0.2
_OOM_SCORE = "800"  # of -1000..1000


class Trainer:
    """Train while the budget lasts, and offer a candidate now and then."""

    def __init__(self, connection: Connection, facts: dict[str, Any], arrays: Any) -> None:
        self._connection = connection
        self._config = AdaptConfig(**facts["config"])
        self._bundle = open_bundle(facts["bundle"])
        codec = self._bundle.codec(self._config.bits, self._config.pool)
        record_bytes = codec.record_bytes + SEQ_BYTES
        memory = LatentMemory(record_bytes, self._config.memory_bytes, self._config.seed)
        levels = self._bundle.levels
        schedule = make_schedule(self._config.schedule, levels, self._config.step_costs)
        blocks = adaptive_blocks(self._bundle, allow_code=self._config.allow_code)
        self._learner = Learner(blocks, levels, memory, codec, schedule, self._config)
        self._upto, self._to_go = int(facts["upto"]), 0
        self._trained = bool(facts["trained"])
        if facts["memory"]:
            held = {"records": arrays["memory.records"], "labels": arrays["memory.labels"]}
            memory = LatentMemory.from_arrays(held, facts["memory"], self._config.memory_bytes)
            self._learner.memory = memory
            weights = group(arrays, "weights") or self._learner.weights()
            self._learner.restore(weights, arrays["rows"], arrays["prior"])
            self._learner.cost = type(self._learner.cost)(**facts["cost"])
        self._steps_per_s, self._allowance, self._paused = float("inf"), 0.0, False
        self._offered_at = self._reported_at = self._refilled_at = time.monotonic()
        self._steps_since_offer, self._step_s = 0, [0.0, 0.0]

    def run(self) -> None:
        """Train until the connection ends."""
        self._connection.send_bytes(pack("ready", {"pid": os.getpid()}, {}))
        while True:
            while self._connection.poll(0 if self._may_step() else _LONGEST_WAIT_S):
                self._take(self._connection.recv_bytes())
            self._refill()
            if self._may_step():
                self._step()
            now = time.monotonic()
            if self._steps_since_offer and (
                now - self._offered_at > _OFFER_EVERY_S or self._to_go == 0
            ):
                self._offer()
            if now - self._reported_at > _REPORT_EVERY_S:
                self._report()

    def _may_step(self) -> bool:
        can = self._to_go > 0 and not self._paused and self._learner.n_classes > 1
        return can and self._allowance >= 1

    def _refill(self) -> None:
        now = time.monotonic()
        passed, self._refilled_at = now - self._refilled_at, now
        rate = min(self._steps_per_s, 1e6)
        self._allowance = min(self._allowance + passed * rate, max(1.0, 0.5 * rate))

    def _take(self, data: bytes) -> None:
        kind, facts, arrays = unpack(data)
        if kind == "learn":
            features = arrays["features"] if len(arrays["features"]) else None
            self._learner.learn_many(arrays["records"], arrays["indices"], features)
            self._upto, self._to_go = int(facts["upto"]), _CONSOLIDATE_STEPS
        elif kind == "budget":
            self._steps_per_s, self._paused = float(facts["steps_per_s"]), bool(facts["paused"])
            if facts.get("shares"):
                self._learner.schedule = Schedule(name=facts["name"], shares=tuple(facts["shares"]))
        elif kind == "restore":
            self._learner.restore(
                group(arrays, "weights") or self._learner.weights(), arrays["rows"]
            )
            self._steps_since_offer = 0

    def _step(self) -> None:
        start = time.monotonic()
        if self._learner.step() is None:
            if self._learner.diverged:
                self._connection.send_bytes(pack("diverged", {}, {}))
                self._learner.diverged, self._to_go = False, 0
            return
        self._trained = True
        self._to_go -= 1
        self._allowance -= 1
        self._steps_since_offer += 1
        self._step_s[0] += time.monotonic() - start
        self._step_s[1] += 1

    def _offer(self) -> None:
        learner, memory = self._learner, self._learner.memory
        held, facts = memory.to_arrays()
        slots = np.arange(len(memory))
        features = learner.features_at(len(learner.levels) - 1, slots)
        arrays = {
            "memory.records": held["records"],
            "memory.labels": held["labels"],
            "rows": learner.classifier(),
            "prior": learner.prior.numpy(),
            "features": features,
            **named(learner.weights(), "weights"),
        }
        all_finite = all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f")
        self._offered_at, self._steps_since_offer = time.monotonic(), 0
        if not all_finite:
            self._connection.send_bytes(pack("diverged", {}, {}))
            return
        facts = {"memory": facts, "upto": self._upto, "cost": vars(learner.cost),
                 "trained": self._trained}  # fmt: skip
        self._connection.send_bytes(pack("candidate", facts, arrays))

    def _report(self) -> None:
        seconds, n = self._step_s
        self._reported_at, self._step_s = time.monotonic(), [0.0, 0.0]
        facts = {
            "steps_per_level": self._learner.cost.steps_per_level,
            "step_s": seconds / n if n else None,
            "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "to_go": self._to_go,
            "latents": len(self._learner.memory),
            "latents_bytes": self._learner.memory.n_bytes,
        }
        self._connection.send_bytes(pack("report", facts, {}))


def main(fd: int) -> None:
    """Serve one perception process until it goes away."""
    connection = Connection(fd)
    try:
        kind, facts, arrays = unpack(connection.recv_bytes())
        assert kind == "start"
        os.nice(int(facts["nice"]))
        with suppress(OSError):  # where memory is short, the kernel takes the trainer first
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
        if facts.get("cpus"):
            os.sched_setaffinity(0, facts["cpus"])
        if facts.get("memory_limit_bytes"):
            limit = int(facts["memory_limit_bytes"])
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        Trainer(connection, facts, arrays).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # perception is gone
    finally:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
