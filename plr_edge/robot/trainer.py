"""The trainer process: latents in, candidates out; torch. May be killed at any instant.

Started by `TrainerProcess`. Knows no store and no frame: what it forgets
when it dies, perception tells it again.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.meters.process import process_memory
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.level_features import TrainingCost
from plr_edge.replay.schedule import Schedule, make_schedule
from plr_edge.robot.protocol import SharedMessage, group, named, pack, unpack
from plr_edge.runtime.holdout import SEQ_BYTES, seqs_of
from plr_edge.runtime.validation import sound

_OFFER_EVERY_S, _OFFER_STEPS = 5.0, 50  # a candidate costs perception 0.1 s to judge: worth it
_OFFER_AT_LEAST_EVERY_S = 30.0
_CONSOLIDATE_STEPS = 400  # after the last label; then there is nothing more to gain
_REPORT_EVERY_S = 0.5
_LONGEST_WAIT_S = 0.2
_OOM_SCORE = "800"


class Trainer:
    """Train while the budget lasts, and offer a candidate now and then."""

    def __init__(self, connection: Connection, facts: dict[str, Any], arrays: Any) -> None:
        self._connection = connection
        self._config = LearningConfig(**facts["config"])
        self._bundle = open_bundle(facts["bundle"])
        codec = self._bundle.codec(self._config.bits, self._config.pool)
        record_bytes = codec.record_bytes + SEQ_BYTES
        memory = LatentMemory(record_bytes, self._config.memory_bytes, self._config.seed)
        levels = self._bundle.levels
        schedule = make_schedule(self._config.schedule, levels, self._config.step_costs)
        blocks = adaptive_blocks(self._bundle, allow_code=bool(facts["allow_code"]))
        self._learner = Learner(
            blocks, levels, memory, codec, schedule, self._config,
            n_threads=int(facts["n_threads"]),
        )  # fmt: skip
        self._of_bundle = self._learner.weights()  # what training falls back to at first
        self._upto, self._to_go = int(facts["upto"]), 0
        self._trained = bool(facts["trained"])
        if facts["memory"]:
            held = {"records": arrays["memory.records"], "labels": arrays["memory.labels"]}
            memory = LatentMemory.from_arrays(held, facts["memory"], self._config.memory_bytes)
            weights = group(arrays, "weights") or self._of_bundle
            self._learner.restore(weights, arrays["rows"], arrays["prior"], memory)
            self._learner.features.cost = TrainingCost(**facts["cost"])
        self._steps_per_s, self._allowance, self._paused = float("inf"), 0.0, False
        self._offered_at = self._reported_at = self._refilled_at = time.monotonic()
        self._steps_since_offer = 0
        self._parcel: SharedMessage | None = None
        self._n_steps, self._steps_s = [0] * len(levels), [0.0] * len(levels)  # since the report

    def run(self) -> None:
        """Train until the connection ends."""
        self._connection.send_bytes(pack("ready", {"pid": os.getpid()}, {}))
        while True:
            while self._connection.poll(0 if self._may_step() else _LONGEST_WAIT_S):
                self._take(self._connection.recv_bytes())
            self._refill()
            if self._may_step():
                self._step()
            if self._is_due():
                self._offer()
            now = time.monotonic()
            if now - self._reported_at > _REPORT_EVERY_S:
                self._report()

    def _is_due(self) -> bool:
        """Whether to offer what was learned since the last time."""
        n, passed_s = self._steps_since_offer, time.monotonic() - self._offered_at
        enough = n >= _OFFER_STEPS and passed_s > _OFFER_EVERY_S
        return n > 0 and (enough or self._to_go == 0 or passed_s > _OFFER_AT_LEAST_EVERY_S)

    def _may_step(self) -> bool:
        can = self._to_go > 0 and not self._paused and self._learner.cosine.n_classes > 1
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
            self._learner.restore(group(arrays, "weights") or self._of_bundle, arrays["rows"])
            self._steps_since_offer = 0

    def _step(self) -> None:
        start = time.process_time()  # not of the clock: it may be held back in between
        level = self._learner.step()
        if level is None:
            if self._learner.diverged:
                self._connection.send_bytes(pack("diverged", {}, {}))
                self._learner.diverged, self._to_go = False, 0
            return
        self._trained = True
        self._to_go -= 1
        self._allowance -= 1
        self._steps_since_offer += 1
        self._n_steps[level] += 1
        self._steps_s[level] += time.process_time() - start

    def _offer(self) -> None:
        learner, memory = self._learner, self._learner.features.memory
        self._offered_at, self._steps_since_offer = time.monotonic(), 0
        means, unknown_below = learner.fitted_means()
        weights = learner.weights()
        arrays = {
            "rows": learner.classifier(),
            "prior": learner.cosine.prior.numpy(),
            "means.sums": means.sums,
            **named(weights, "weights"),
        }
        if not sound(arrays.values()):
            self._connection.send_bytes(pack("diverged", {}, {}))
            return
        held, memory_facts = memory.to_arrays()
        arrays |= {
            "means.counts": means.counts,
            "memory.seqs": seqs_of(held["records"]),
            "memory.labels": held["labels"],
        }
        facts = {"memory": memory_facts, "upto": self._upto, "cost": vars(learner.features.cost),
                 "trained": self._trained, "unknown_below": unknown_below}  # fmt: skip
        if self._parcel is not None:
            self._parcel.close()
        self._parcel = SharedMessage(pack("candidate", facts, arrays))
        self._connection.send_bytes(pack("parcel", {"place": self._parcel.place}, {}))

    def _report(self) -> None:
        levels, memory = len(self._n_steps), self._learner.features.memory
        facts = {
            "steps": self._n_steps,
            "steps_s": self._steps_s,
            "rss_bytes": process_memory().get("rss_bytes"),
            "to_go": self._to_go,
            "latents": len(memory),
            "latents_bytes": memory.n_bytes,
        }
        self._reported_at = time.monotonic()
        self._n_steps, self._steps_s = [0] * levels, [0.0] * levels
        self._connection.send_bytes(pack("report", facts, {}))


def main(fd: int) -> None:
    """Serve one perception process until it goes away."""
    connection = Connection(fd)
    try:
        kind, facts, arrays = unpack(connection.recv_bytes())
        assert kind == "start"
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)  # where memory runs out, this process goes before perception
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
