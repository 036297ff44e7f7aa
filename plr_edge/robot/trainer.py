"""The trainer process: takes in latents, and offers candidates. It may be killed at any instant.

`TrainerProcess` starts it. It knows neither store nor frames. What it loses when it dies,
`TrainerSync` sends it again.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.meters.process import process_memory
from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory, seqs_of
from plr_edge.replay.learner import Learner
from plr_edge.replay.level_features import TrainingCost
from plr_edge.replay.schedule import Schedule, make_schedule
from plr_edge.robot.governor import CONSOLIDATE_STEPS
from plr_edge.robot.protocol import SharedMessage, group, named, pack, unpack
from plr_edge.runtime.consolidation import ConsolidationBudget, Cycle
from plr_edge.runtime.malloc import trim_memory
from plr_edge.runtime.validation import has_diverged

# evaluating a candidate costs perception 0.1 s
_OFFER_EVERY_S, _OFFER_STEPS = 5.0, 50
_OFFER_AT_LEAST_EVERY_S = 30.0
_REPORT_EVERY_S = 0.5
_MAX_WAIT_S = 0.2
_MAX_STEPS_PER_S = 1e6
_OOM_SCORE = "800"


class Trainer:
    """Trains while the budget lasts, and offers a candidate now and then.

    Labels that arrive during a cycle of consolidation are taken in between two of its steps. Their
    own training steps follow it, and so do candidates.
    """

    def __init__(
        self,
        connection: Connection,
        metadata: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Start afresh, or continue from a checkpoint.

        Args:
            connection: to the perception process.
            metadata: metadata of the message `start`.
            arrays: its arrays.
        """
        self._connection = connection
        self._learner = _make_learner(metadata)
        self._upto, self._to_go = int(metadata["upto"]), 0
        if metadata["memory"]:
            # `plr-edge adapt` may have rehearsed from windows; whole maps are rehearsed here
            record_bytes = self._learner.features.memory.record_bytes
            records = arrays["memory.records"].reshape(-1, record_bytes)
            held = {"records": records, "labels": arrays["memory.labels"]}
            kept = {**metadata["memory"], "record_bytes": record_bytes}
            budget_bytes = self._learner.config.memory_bytes
            memory = LatentMemory.from_arrays(held, kept, budget_bytes)
            weights = group(arrays, "weights") or self._learner.exported
            self._learner.restore(weights, arrays["rows"], arrays["prior"], memory)
            self._learner.features.cost = TrainingCost(**metadata["cost"])
        self._steps_per_s, self._allowance, self._paused = float("inf"), 0.0, False
        self._offered_at = self._reported_at = self._refilled_at = time.monotonic()
        self._steps_since_offer = 0
        self._cycle: Cycle | None = None
        self._paused_at = 0.0
        self._offered: SharedMessage | None = None
        n_levels = len(self._learner.levels)
        self._n_steps, self._steps_s = [0] * n_levels, [0.0] * n_levels  # since the report

    def run(self) -> None:
        """Train until the connection ends."""
        self._connection.send_bytes(pack("ready", {"pid": os.getpid()}, {}))
        while True:
            while self._connection.poll(0 if self._may_step() else _MAX_WAIT_S):
                self._take(self._connection.recv_bytes())
            self._refill()
            if self._may_step():
                self._step()
            if self._cycle is not None and self._cycle.progress.share >= 1 and not self._paused:
                self._end_cycle()
            if self._is_due():
                self._offer()
            now = time.monotonic()
            if now - self._reported_at > _REPORT_EVERY_S:
                self._report()

    def _is_due(self) -> bool:
        """Return whether to offer what was trained since the last time."""
        if self._cycle is not None:
            return False
        n, passed_s = self._steps_since_offer, time.monotonic() - self._offered_at
        enough = n >= _OFFER_STEPS and passed_s > _OFFER_EVERY_S
        return n > 0 and (enough or self._to_go == 0 or passed_s > _OFFER_AT_LEAST_EVERY_S)

    def _may_step(self) -> bool:
        if self._paused or self._allowance < 1:
            return False
        return self._cycle is not None or (self._to_go > 0 and self._learner.cosine.n_classes > 1)

    def _refill(self) -> None:
        """Add the steps that the budget allows for the time that has passed."""
        now = time.monotonic()
        passed, self._refilled_at = now - self._refilled_at, now
        rate = min(self._steps_per_s, _MAX_STEPS_PER_S)
        self._allowance = min(self._allowance + passed * rate, max(1.0, 0.5 * rate))

    def _take(self, data: bytes) -> None:
        kind, metadata, arrays = unpack(data)
        if kind == "learn":
            features = arrays["features"] if len(arrays["features"]) else None
            self._learner.learn_many(arrays["records"], arrays["indices"], features)
            self._upto, self._to_go = int(metadata["upto"]), CONSOLIDATE_STEPS
        elif kind == "budget":
            self._steps_per_s = float(metadata["steps_per_s"])
            self._pause(bool(metadata["paused"]))
            if metadata.get("shares"):
                shares = tuple(metadata["shares"])
                self._learner.schedule = Schedule(name=metadata["name"], shares=shares)
        elif kind == "restore":
            weights = group(arrays, "weights") or self._learner.exported
            self._learner.restore(weights, arrays["rows"])
            self._steps_since_offer = 0
        elif kind == "consolidate":
            schedule = Schedule(name=metadata["name"], shares=tuple(metadata["shares"]))
            budget = ConsolidationBudget(macs=metadata["macs"], seconds=metadata["seconds"])
            self._cycle = Cycle(self._learner, schedule, budget)
            self._paused_at = time.monotonic()
        elif kind == "stop" and self._cycle is not None:
            self._end_cycle(stopped=True)

    def _pause(self, paused: bool) -> None:
        """Pause or go on. A pause takes nothing of the seconds that a cycle may spend."""
        now = time.monotonic()
        if self._cycle is not None and self._paused and not paused:
            self._cycle.skip(now - self._paused_at)
        if paused and not self._paused:
            self._paused_at = now
        self._paused = paused

    def _step(self) -> None:
        start = time.process_time()  # wall time would count pauses of this process
        level = self._learner.step() if self._cycle is None else self._cycle.step()
        if level is None:
            if self._cycle is not None:
                self._end_cycle()
            if self._learner.diverged:
                self._connection.send_bytes(pack("diverged", {}, {}))
                self._learner.diverged, self._to_go = False, 0
            return
        self._to_go -= self._cycle is None
        self._allowance -= 1
        self._steps_since_offer += 1
        self._n_steps[level] += 1
        self._steps_s[level] += time.process_time() - start

    def _end_cycle(self, *, stopped: bool = False) -> None:
        """Say what a cycle took, and offer what it trained."""
        cycle, self._cycle = self._cycle, None
        assert cycle is not None
        offers = cycle.n_steps > 0 and not self._learner.diverged
        self._report()
        facts = {
            "n_steps": cycle.n_steps,
            "macs": cycle.macs,
            "seconds": cycle.seconds,
            "stopped": stopped,
            "offered": offers,
        }
        self._connection.send_bytes(pack("consolidated", facts, {}))
        if offers:
            self._offer(consolidated=True)

    def _offer(self, *, consolidated: bool = False) -> None:
        """Offer a candidate, through memory that both processes share.

        Args:
            consolidated: whether it is the result of a cycle.
        """
        learner, memory = self._learner, self._learner.features.memory
        self._offered_at, self._steps_since_offer = time.monotonic(), 0
        means, unknown_below = learner.fitted_means()
        arrays = {
            "rows": learner.classifier(),
            "prior": learner.cosine.prior.numpy(),
            "means.sums": means.sums,
            **named(learner.weights(), "weights"),
        }
        if has_diverged(arrays.values()):
            self._connection.send_bytes(pack("diverged", {}, {}))
            return
        held, memory_metadata = memory.to_arrays()
        arrays |= {
            "means.counts": means.counts,
            "memory.seqs": seqs_of(held["records"]),
            "memory.labels": held["labels"],
        }
        metadata = {
            "memory": memory_metadata,
            "upto": self._upto,
            "cost": vars(learner.features.cost),
            "unknown_below": unknown_below,
            "has_moved": learner.has_moved,
            "consolidated": consolidated,
        }
        if self._offered is not None:
            self._offered.close()
        self._offered = SharedMessage(pack("candidate", metadata, arrays))
        self._connection.send_bytes(pack("parcel", {"place": self._offered.place}, {}))
        trim_memory()

    def _report(self) -> None:
        memory = self._learner.features.memory
        metadata = {
            "steps": self._n_steps,
            "steps_s": self._steps_s,
            "rss_bytes": process_memory().get("rss_bytes"),
            "to_go": self._to_go,
            "latents": len(memory),
            "latents_bytes": memory.n_bytes,
            "cycle": None if self._cycle is None else vars(self._cycle.progress),
        }
        n_levels = len(self._n_steps)
        self._reported_at = time.monotonic()
        self._n_steps, self._steps_s = [0] * n_levels, [0.0] * n_levels
        self._connection.send_bytes(pack("report", metadata, {}))


def _make_learner(metadata: Mapping[str, Any]) -> Learner:
    """Make a learner that starts from the weights of the bundle."""
    config, bundle = LearningConfig(**metadata["config"]), open_bundle(metadata["bundle"])
    codec, levels = bundle.codec(config.bits, config.pool), bundle.levels
    return Learner(
        adaptive_blocks(bundle),
        levels,
        LatentMemory(codec.record_bytes + SEQ_BYTES, config.memory_bytes, config.seed),
        codec,
        make_schedule(config.schedule_name, levels, config.step_costs),
        config,
        window=bundle.window(config.window),
        n_threads=int(metadata["n_threads"]),
    )


def main(fd: int) -> None:
    """Serve one perception process until it ends.

    Args:
        fd: file descriptor of the connection to it.
    """
    connection = Connection(fd)
    try:
        kind, metadata, arrays = unpack(connection.recv_bytes())
        assert kind == "start"
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)  # out of memory, the kernel kills this process first
        if metadata.get("cpus"):
            os.sched_setaffinity(0, metadata["cpus"])
        if metadata.get("memory_limit_bytes"):
            limit = int(metadata["memory_limit_bytes"])
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        Trainer(connection, metadata, arrays).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # perception has ended
    finally:
        connection.close()
