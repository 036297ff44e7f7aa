"""Live: knowledge that is trained in another process. Without torch; nothing here waits.

All methods but `close` belong to one thread, that of the frames.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle import Bundle
from plr_edge.config import AdaptConfig
from plr_edge.errors import PlrEdgeError
from plr_edge.runtime import saving
from plr_edge.runtime.canary import with_seq
from plr_edge.runtime.handover import Message, TrainerProcess
from plr_edge.runtime.knowledge import Candidate, Judged, Knowledge, Taught
from plr_edge.runtime.messages import group, named, pack
from plr_edge.store import LEARNED, TRAIN

_log = logging.getLogger(__name__)
_SAVE_EVERY_S = 300.0
_SAVE_EVERY_LABELS = 500
_CHUNK = 64


class Live(Knowledge):
    """Answer and acknowledge here; let a trainer process do the rest."""

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path,
        config: AdaptConfig,
        *,
        nice: int = 10,
        cpus: list[int] | None = None,
        memory_limit_bytes: int | None = None,
    ) -> None:
        """Go on from a state, and start the trainer.

        Args:
            bundle: from `open_bundle`.
            state: directory of what is learned.
            config: how to learn.
            nice: of the trainer.
            cpus: that the trainer may use; all by default.
            memory_limit_bytes: of the trainer's data.

        Raises:
            StateError: the state is damaged, in use, not writable or of another frozen part.
        """
        super().__init__(bundle, state, config)
        self.trainer = TrainerProcess()
        self.report: dict[str, Any] = {}
        self.n_dropped = 0
        self._limits = {"nice": nice, "cpus": cpus, "memory_limit_bytes": memory_limit_bytes}
        self._slow: saving.Slow | None = None
        self._budget: dict[str, Any] = {"steps_per_s": 1e6, "paused": False}
        self._ready: list[Callable[[], None]] = []  # results of background work, for `poll`
        self._working = False
        self._saved_at, self._saved_seq = time.monotonic(), 0
        try:
            assert self.store is not None
            saving.recover(self, self.store)
            self._saved_seq = self.store.last_seq
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the trainer, and give the state's lock back."""
        trainer = getattr(self, "trainer", None)
        if trainer is not None:
            trainer.kill()
        while getattr(self, "_working", False):
            time.sleep(0.01)
        super().close()

    def reopen(self) -> None:
        """Go on from the store as it is now, after labels in it were undone.

        Frames wait while the labels after the newest generation are learned again.
        """
        assert self.store is not None
        self.trainer.kill()
        self.trainer.child = None  # no death: it was told to go
        while self._working:
            time.sleep(0.001)
        self._ready.clear()
        self._slow, self.report = None, {}
        self.reset()
        saving.recover(self, self.store)

    def learn_slow(self, taught: Taught) -> None:
        """Hand labels over to the trainer."""
        train = np.flatnonzero([label.use == TRAIN for label in taught.labels])
        if not len(train):
            return
        own = taught.take(train)
        arrays = {
            "records": with_seq(own.records, own.seqs),
            "indices": own.indices,
            "features": np.zeros((0,), np.float32) if self.version else own.seen.features,
        }
        self.trainer.send(pack("learn", {"upto": int(own.seqs[-1])}, arrays))

    def restore_slow(self, slow: saving.Slow) -> None:
        """Remember what training knew; the trainer is told when it starts."""
        self._slow = slow

    def set_budget(self, steps_per_s: float, *, paused: bool = False, **schedule: Any) -> None:
        """Tell the trainer how much it may do."""
        budget = {"steps_per_s": min(steps_per_s, 1e6), "paused": paused, **schedule}
        if budget != self._budget:
            self._budget = budget
            self.trainer.send(pack("budget", budget, {}))

    def poll(self) -> None:
        """Take in what happened elsewhere; call it between two frames."""
        while self._ready:
            self._ready.pop(0)()
        if self.trainer.reap():
            self.note("trainer", f"died, for the {self.trainer.n_deaths}. time")
        if self.trainer.wanted:
            self._start_trainer()
        while not self.trainer.inbox.empty():
            self._take(self.trainer.inbox.get())
        if self.store and not self._working:
            new = self.store.last_seq - self._saved_seq
            late = time.monotonic() - self._saved_at > _SAVE_EVERY_S
            if new and (late or new >= _SAVE_EVERY_LABELS):
                self.save("on time")

    def save(self, reason: str, *, wait: bool = False) -> bool:
        """Write a generation on a thread of its own.

        Args:
            reason: for the log.
            wait: until it is written.

        Returns:
            False where there is nothing to write yet, the day's writing is spent, something else
            is being written, or the disk refuses while we wait.
        """
        while wait and self._working:
            time.sleep(0.001)
        store, slow = self.store, self._slow
        self._saved_at = time.monotonic()
        if store is None or slow is None or self._working:
            return False
        if not wait and store.written_today > self.config.write_bytes_per_day:
            return False
        self._saved_seq = store.last_seq
        frozen = copy.copy(self)  # of what changes while it is written
        frozen.perception = copy.copy(self.perception)
        frozen.perception.classifier = copy.deepcopy(self.classifier)
        frozen.admission, frozen.canary = copy.deepcopy((self.admission, self.canary))
        frozen.classes = list(self.classes)
        upto = store.last_seq

        def work() -> bool:
            try:
                saving.save(frozen, store, slow, reason, upto=upto)
            except PlrEdgeError as error:
                _log.error("%s", error)
                return False
            return True

        if wait:
            return work()
        self._in_background(work, lambda: None)
        return True

    def _start_trainer(self) -> None:
        slow = self._slow
        arrays: dict[str, np.ndarray] = {}
        facts: dict[str, Any] = {
            "bundle": str(self.bundle.path),
            "config": {**asdict(self.config), "step_costs": self.config.step_costs,
                       "allow_code": self.config.allow_code or self.bundle.trusted},
            "upto": slow.upto if slow else 0,
            "memory": slow.memory_facts if slow else None,
            "trained": self.version > 0,
            **self._limits,
        }  # fmt: skip
        if slow:
            facts["cost"] = slow.facts["cost"]
            arrays = {
                "memory.records": slow.records, "memory.labels": slow.labels,
                "rows": slow.rows, "prior": slow.prior,
                **named(slow.weights or self.good_weights, "weights"),
            }  # fmt: skip
        self.trainer.start(pack("start", facts, arrays))
        self.trainer.send(pack("budget", self._budget, {}))
        self._tell_again(slow.upto if slow else 0)

    def _tell_again(self, upto: int) -> None:
        """Hand over the labels that a new trainer does not know."""
        assert self.store is not None
        missed = [x for x in self.store.labels(upto) if x.status == LEARNED and x.use == TRAIN]
        for start in range(0, len(missed), _CHUNK):
            held = self.store.with_latents(missed[start : start + _CHUNK])
            if not held:
                continue
            seqs = np.array([label.seq for label in held], np.int64)
            records = np.stack([label.record for label in held if label.record is not None])
            arrays = {
                "records": with_seq(records, seqs),
                "indices": np.array([self.index_of(label.name) for label in held], np.int64),
                "features": np.zeros((0,), np.float32),
            }
            self.trainer.send(pack("learn", {"upto": int(seqs[-1])}, arrays))

    def _take(self, message: Message) -> None:
        kind, facts, arrays = message
        if kind == "report":
            self.report = facts
        elif kind == "diverged":
            self._refuse("training diverged")
        elif kind == "candidate" and not self._working:
            self._consider(facts, arrays)

    def _consider(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Build and judge a candidate beside the one that answers."""
        weights = group(arrays, "weights")
        labels = arrays["memory.labels"].astype(np.int64)
        candidate = Candidate(weights, arrays["rows"], arrays["features"], labels)
        results: list[Judged] = []

        def work() -> None:
            try:
                results.append(self.judged(candidate))
            except PlrEdgeError as error:
                _log.error("a candidate cannot be judged (%s)", error)

        def then() -> None:
            if not results:
                return
            if not results[0].verdict.passed:
                self.verdict = results[0].verdict
                self._refuse(results[0].verdict.reason)
                return
            self.swap_in(results[0])
            self.note("published", f"version {self.version}: {results[0].verdict.reason}")
            slow_facts = {"cost": facts["cost"], "credit_macs": 0.0, "next_publish": 64.0}
            self._slow = saving.Slow(
                upto=int(facts["upto"]), records=arrays["memory.records"],
                labels=arrays["memory.labels"], memory_facts=facts["memory"], weights=None,
                rows=arrays["rows"], prior=arrays["prior"], facts=slow_facts,
            )  # fmt: skip

        self._in_background(work, then)

    def _refuse(self, reason: str) -> None:
        self.n_dropped += 1
        self.drop(reason)
        arrays = {"rows": self.good_rehearsed, **named(self.good_weights, "weights")}
        self.trainer.send(pack("restore", {}, arrays))

    def _in_background(self, work: Callable[[], object], then: Callable[[], None]) -> None:
        self._working = True

        def run() -> None:
            try:
                work()
            finally:
                self._working = False
                self._ready.append(then)

        threading.Thread(target=run, daemon=True).start()
