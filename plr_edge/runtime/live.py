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
from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.config import AdaptConfig
from plr_edge.errors import PlrEdgeError
from plr_edge.runtime import saving
from plr_edge.runtime.briefing import Briefing
from plr_edge.runtime.canary import with_seq
from plr_edge.runtime.handover import Message, TrainerProcess
from plr_edge.runtime.judging import Candidate, Judged
from plr_edge.runtime.knowledge import Knowledge, Taught
from plr_edge.runtime.messages import group, named, pack
from plr_edge.store import TRAIN

_log = logging.getLogger(__name__)
_SAVE_EVERY_S = 300.0
_SAVE_EVERY_LABELS = 500
_SLICE_S = 0.003  # of briefing a trainer between two frames


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
        """Go on from a state; `poll` starts the trainer.

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
        self.n_steps = [0] * len(bundle.levels)  # done since the start, by level
        self.steps_s = [0.0] * len(bundle.levels)  # processor time that they took
        self._limits = {"nice": nice, "cpus": cpus, "memory_limit_bytes": memory_limit_bytes}
        self._slow: saving.Slow | None = None
        self._briefing: Briefing | None = None
        self._budget: dict[str, Any] = {"steps_per_s": 1e6, "paused": False}
        self._offer: Message | None = None  # the newest candidate that nobody looked at
        self._ready: list[Callable[[], None]] = []  # results of background work, for `poll`
        self._working = False
        self._saved_at, self._saved_seq, self._saved_version = time.monotonic(), 0, 0
        try:
            assert self.store is not None
            saving.recover(self, self.store)
            self._saved_seq, self._saved_version = self.store.last_seq, self.version
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the trainer, and give the state's lock back."""
        trainer = getattr(self, "trainer", None)
        if trainer is not None:
            trainer.kill()
            self._await_work()
        super().close()

    def reopen(self) -> None:
        """Go on from the store as it is now, after labels in it were undone.

        Frames wait while the labels after the newest generation are learned again.
        """
        assert self.store is not None
        self.trainer.kill()
        self.trainer.child = None  # no death: it was told to go
        self._await_work()
        self._ready.clear()
        self._slow, self._briefing, self._offer, self.report = None, None, None, {}
        self.reset()
        saving.recover(self, self.store)

    @property
    def busy(self) -> bool:
        """Whether `poll` has more to do at once, if no frame waits."""
        return self._briefing is not None and not self._briefing.over

    @property
    def unsaved(self) -> bool:
        """Whether something was learned that no generation on disk holds."""
        assert self.store is not None
        return (self.store.last_seq, self.version) != (self._saved_seq, self._saved_version)

    def learn_slow(self, taught: Taught) -> None:
        """Hand labels over to the trainer; one that is still being briefed comes to them."""
        train = np.flatnonzero([label.use == TRAIN for label in taught.labels])
        if self._briefing is None or not self._briefing.over or not len(train):
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
        """Tell the trainer how much it may do, and at which levels."""
        budget = {"steps_per_s": min(steps_per_s, 1e6), "paused": paused, **schedule}
        if budget != self._budget:
            self._budget = budget
            if self._briefing is not None and self._briefing.begun:  # it was told the old one
                self.trainer.send(pack("budget", budget, {}))

    def poll(self) -> None:
        """Take in what happened elsewhere; call it between two frames."""
        while self._ready:
            self._ready.pop(0)()
        if self.trainer.reap():
            self._briefing = None
            self.note("trainer", f"died, for the {self.trainer.n_deaths}. time")
        if self.trainer.wanted:
            self._start_trainer()
        if self._briefing is not None:
            self._briefing.go_on(_SLICE_S)
        while not self.trainer.inbox.empty():
            self._take(self.trainer.inbox.get())
        if self._offer is not None and not self._working:
            (_, facts, arrays), self._offer = self._offer, None
            self._consider(facts, arrays)
        if self.store and not self._working:
            late = time.monotonic() - self._saved_at > _SAVE_EVERY_S
            many = self.store.last_seq - self._saved_seq >= _SAVE_EVERY_LABELS
            if many or (late and self.unsaved):
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
        if wait:
            self._await_work()
        store, slow = self.store, self._slow
        self._saved_at = time.monotonic()
        if store is None or slow is None or self._working:
            return False
        if not wait and store.written_today > self.config.write_bytes_per_day:
            return False
        self._saved_seq, self._saved_version = upto, _ = store.last_seq, self.version
        frozen = copy.copy(self)  # of what changes while it is written
        frozen.perception = copy.copy(self.perception)
        frozen.perception.classifier = copy.deepcopy(self.classifier)
        frozen.admission, frozen.canary = copy.deepcopy((self.admission, self.canary))
        frozen.classes = list(self.classes)

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
        assert self.store is not None
        self.trainer.start()
        slow = self._slow
        facts: dict[str, Any] = {
            "bundle": str(self.bundle.path),
            "config": {**asdict(self.config), "step_costs": self.config.step_costs,
                       "allow_code": self.config.allow_code or self.bundle.trusted},
            "upto": slow.upto if slow else 0,
            "trained": self.version > 0,
            **self._limits,
        }  # fmt: skip
        weights = (slow.weights if slow else None) or self.good_weights
        self._briefing = Briefing(
            self.trainer, self.store, self.index_of, slow, facts, named(weights, "weights"),
            lambda: self._budget,
        )  # fmt: skip

    def _take(self, message: Message) -> None:
        kind, facts, _ = message
        if kind == "report":
            new = zip(facts.pop("steps"), facts.pop("steps_s"), strict=True)
            for level, (steps, seconds) in enumerate(new):
                self.n_steps[level] += steps
                self.steps_s[level] += seconds
            self.report = facts
        elif kind == "diverged":
            self._refuse("training diverged")
        elif kind == "candidate":
            self._offer = message

    def _consider(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Build and judge a candidate beside the one that answers."""
        means = ClassMeans(self.bundle.feature_width)
        means.sums, means.counts = arrays["means.sums"], arrays["means.counts"]
        weights = group(arrays, "weights")
        candidate = Candidate(weights, arrays["rows"], means, float(facts["unknown_below"]))
        results: list[Judged] = []
        exam = self.exam()

        def work() -> None:
            try:
                results.append(self.judged(candidate, exam))
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
                upto=int(facts["upto"]), seqs=arrays["memory.seqs"],
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
        self._working = self.trainer.held = True  # the work takes the trainer's time, not frames'

        def run() -> None:
            try:
                work()
            finally:
                self._ready.append(then)
                self._working = self.trainer.held = False

        threading.Thread(target=run, daemon=True).start()

    def _await_work(self) -> None:
        while self._working:
            time.sleep(0.001)
