"""Live: knowledge that is trained in another process. Without torch; nothing here waits.

All methods but `close` belong to one thread, that of the frames.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import PlrEdgeError
from plr_edge.replay.schedule import macs_from
from plr_edge.robot.autosave import Autosave
from plr_edge.robot.background import Background
from plr_edge.robot.protocol import Message, group, named, pack
from plr_edge.robot.restart_guard import RestartGuard
from plr_edge.robot.trainer_process import TrainerProcess
from plr_edge.robot.trainer_sync import TrainerSync
from plr_edge.runtime import checkpoint as saving
from plr_edge.runtime.holdout import with_seq
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.validation import Candidate, Judged
from plr_edge.store import TRAIN

_log = logging.getLogger(__name__)
T = TypeVar("T")

# copied out of a candidate, so that its mapping goes with its weights
_OF_SLOW = {"seqs": "memory.seqs", "labels": "memory.labels", "rows": "rows", "prior": "prior"}


class Live(Background):
    """Answer and acknowledge here; let a trainer process do the rest."""

    def __init__(
        self,
        bundle: Bundle,
        state: str | Path,
        config: LearningConfig,
        engines: EngineConfig | None = None,
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
            engines: what the networks run on.
            nice: of the trainer.
            cpus: that the trainer may use; all by default.
            memory_limit_bytes: of the trainer's data.

        Raises:
            StateError: the state is damaged, in use, not writable or of another frozen part.
        """
        self.trainer = TrainerProcess(nice)
        self._briefing: TrainerSync | None = None
        super().__init__(bundle, state, _with_costs(bundle, config), engines)
        self.report: dict[str, Any] = {}
        self.n_dropped = 0
        self.n_steps = [0] * len(bundle.levels)  # done since the start, by level
        self.steps_s = [0.0] * len(bundle.levels)  # processor time that they took
        self._limits = {"cpus": cpus, "memory_limit_bytes": memory_limit_bytes}
        self._budget: dict[str, Any] = {"steps_per_s": 1e6, "paused": False}
        self._offer: Message | None = None  # the newest candidate that nobody looked at
        self._judging = False
        assert self.store is not None
        self.starts = RestartGuard(self.store)
        try:
            if not self.starts.trouble:
                saving.recover(self, self.store)
            self.last_seq = self.store.last_seq
            self.settle()
            self._snapshots = Autosave(self, self.store, self._fit, self._aside)
        except PlrEdgeError:
            self.close()
            raise
        except BaseException:  # whatever it is, it may be so at the next start too
            self.starts.answered = True
            self.close()
            raise

    def close(self) -> None:
        """Stop the trainer, end what is under way, and give the state's lock back."""
        self.trainer.kill()
        self._end_briefing()
        if hasattr(self, "starts"):
            self.starts.given_up()
        super().close()

    def learn_slow(self, taught: LabelledBatch) -> None:
        """Hand labels over to the trainer."""
        train = np.flatnonzero([label.use == TRAIN for label in taught.labels])
        if self._briefing is None or not len(train):
            return
        own = taught.take(train)
        arrays = {
            "records": with_seq(own.records, own.seqs),
            "indices": own.indices,
            "features": np.zeros((0,), np.float32) if self.version else own.seen.features,
        }
        upto = int(own.seqs[-1])
        self._briefing.tell(upto, pack("learn", {"upto": upto}, arrays))

    def restore_slow(self, slow: saving.TrainerCheckpoint) -> None:
        """Remember what training knew; the trainer is told when it starts."""
        self.slow = slow

    # the trainer

    def set_budget(self, steps_per_s: float, *, paused: bool = False, **schedule: Any) -> None:
        """Tell the trainer how much it may do, and at which levels."""
        budget = {"steps_per_s": min(steps_per_s, 1e6), "paused": paused, **schedule}
        if budget != self._budget:
            self._budget = budget
            if self._briefing is not None:
                self._briefing.tell(0, pack("budget", budget, {}))

    def poll(self) -> None:
        """Take in what happened elsewhere; call it between two frames."""
        super().poll()
        if self.trainer.reap():
            self._end_briefing()
            self.note("trainer", f"died, for the {self.trainer.n_deaths}. time")
        if self.trainer.wanted and not (self.changing or self.starts.trouble):
            self._start_trainer()
        while not self.trainer.inbox.empty():
            self._take(self.trainer.inbox.get())
        if self._offer is not None and not (self._judging or self.changing):
            (_, facts, arrays), self._offer = self._offer, None
            self._consider(facts, arrays)
        if not self.changing:
            self._snapshots.poll()

    def started_well(self) -> None:
        """Say that this start has succeeded."""
        self._disk.submit(self.starts.succeeded)

    def save(self, reason: str) -> Future[bool]:
        """Write a generation, if there is one; see `Autosave.save`."""
        return self._snapshots.save(reason)

    @property
    def unsaved(self) -> bool:
        """Whether something was learned that no generation on disk holds."""
        return self._snapshots.unsaved

    # inside

    def _start_trainer(self) -> None:
        assert self.store is not None
        slow = self.slow
        facts: dict[str, Any] = {
            "bundle": str(self.bundle.path),
            "config": asdict(self.config),
            "n_threads": self.engines.n_threads,
            "allow_code": self.engines.allow_code or self.bundle.trusted,
            "upto": slow.upto if slow else 0,
            "trained": self.version > 0,
            **self._limits,
        }  # fmt: skip
        weights = (slow.weights if slow else None) or self.good_weights
        self._briefing = TrainerSync(
            self.trainer, self.store, self.classes, lambda: self.last_seq, slow, facts,
            named(weights, "weights"),
        )  # fmt: skip
        self._briefing.tell(0, pack("budget", self._budget, {}))

    def drop_training(self) -> None:
        """End the trainer: it has learned from labels that are taken back."""
        self.trainer.dismiss()
        self._end_briefing()
        self._offer, self.report = None, {}

    def _end_briefing(self) -> None:
        if self._briefing is not None:
            self._briefing.cancel()
            self._briefing = None

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
        means.sums, means.counts = np.array(arrays["means.sums"]), np.array(arrays["means.counts"])
        weights = group(arrays, "weights")
        candidate = Candidate(weights, arrays["rows"], means, float(facts["unknown_below"]))
        exam, epoch = self.exam(), self.epoch
        # where time is limited, judging takes the trainer's, not the frames'
        self._judging = self.trainer.held = True

        def then(done: Future[Judged]) -> None:
            if self.changing:  # labels are learned by the version that answers; it must not change
                self._ready.append(lambda: then(done))
                return
            self._judging = self.trainer.held = False
            if epoch != self.epoch:
                return
            try:
                judged = done.result()
            except PlrEdgeError as error:
                _log.error("a candidate cannot be judged (%s)", error)
                return
            self._verdict_on(judged, facts, arrays)

        self._later(self._aside, lambda: self.judged(candidate, exam), then)

    def _verdict_on(
        self, judged: Judged, facts: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> None:
        if not judged.verdict.passed:
            self.verdict = judged.verdict
            self._refuse(judged.verdict.reason)
            return
        self.swap_in(judged)
        self.note("published", f"version {self.version}: {judged.verdict.reason}")
        slow_facts = {"cost": facts["cost"], "credit_macs": 0.0, "next_publish": 64.0}
        self.slow = saving.TrainerCheckpoint(
            upto=int(facts["upto"]), memory_facts=facts["memory"], weights=None, facts=slow_facts,
            **{part: np.array(arrays[name]) for part, name in _OF_SLOW.items()},
        )  # fmt: skip

    def _refuse(self, reason: str) -> None:
        self.n_dropped += 1
        self.drop(reason)
        arrays = {"rows": self.good_rehearsed, **named(self.good_weights, "weights")}
        if self._briefing is not None:
            self._briefing.tell(0, pack("restore", {}, arrays))


def _with_costs(bundle: Bundle, config: LearningConfig) -> LearningConfig:
    """Let the schedule `measured` begin with multiply-adds; the governor has it follow seconds."""
    if config.schedule != "measured" or config.step_costs is not None:
        return config
    return replace(config, step_costs=tuple(macs + 1.0 for macs in macs_from(bundle.levels)))
