"""BackgroundTrainer: the trainer process as the thread of the frames sees it. Nothing here waits.

It starts the trainer again after a crash, hands labels over to it, and keeps what comes back: its
reports, and the newest candidate. Without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.class_means import ClassMeans
from plr_edge.config import LearningConfig
from plr_edge.replay.latent_memory import with_seq
from plr_edge.replay.schedule import Schedule
from plr_edge.robot.protocol import Message, group, named, pack
from plr_edge.robot.trainer_process import TrainerProcess
from plr_edge.robot.trainer_sync import TrainerSync
from plr_edge.runtime.checkpoint import TrainerCheckpoint
from plr_edge.runtime.consolidation import ConsolidationBudget
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.validation import Candidate
from plr_edge.store import Store

_UNLIMITED = 1e6  # steps/s


@dataclass(frozen=True, kw_only=True)
class TrainerLimits:
    """What the trainer process may use of the machine.

    Attributes:
        nice: nice value of the process.
        cpus: processors that it may use. None for all.
        n_threads: its threads.
        memory_limit_bytes: limit of its data segment.
        divisor: its batches are smaller by this, so that it lives within the limit.
    """

    nice: int = 10
    cpus: list[int] | None = None
    n_threads: int = 1
    memory_limit_bytes: int | None = None
    divisor: int = 1


class BackgroundTrainer:
    """Trains in another process.

    Attributes:
        process: the trainer process.
        batch: samples of a training step.
        memory_limit_bytes: limit of the data segment of the process. None if it has none.
        report: the newest report of the trainer. Empty before the first.
        n_steps: training steps since the start, by level.
        steps_s: processor seconds that they took, by level.
        candidate: the newest candidate that was not looked at yet.
        consolidated: what the cycle of consolidation took that ended last. None if none did.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: LearningConfig,
        limits: TrainerLimits | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            bundle: what to train.
            config: how to train.
            limits: what the process may use.
        """
        limits = limits or TrainerLimits()
        config = config.with_smaller_batches(limits.divisor)
        self.memory_limit_bytes = limits.memory_limit_bytes
        self.process, self.batch = TrainerProcess(limits.nice, limits.n_threads), config.batch
        self.report: dict[str, Any] = {}
        self.n_steps = [0] * len(bundle.levels)
        self.steps_s = [0.0] * len(bundle.levels)
        self.candidate: Message | None = None
        self.consolidated: dict[str, Any] | None = None
        self._settings = {
            "bundle": str(bundle.path),
            "config": asdict(config),
            "n_threads": limits.n_threads,
            "cpus": limits.cpus,
            "memory_limit_bytes": limits.memory_limit_bytes,
        }
        self._budget: dict[str, Any] = {"steps_per_s": _UNLIMITED, "paused": False}
        self._sync: TrainerSync | None = None

    @property
    def paused(self) -> bool:
        """Whether training is paused."""
        return bool(self._budget["paused"])

    def start(
        self,
        store: Store,
        model: LearnedModel,
        checkpoint: TrainerCheckpoint | None,
        classes: Callable[[], Sequence[str]],
        last_seq: Callable[[], int],
    ) -> None:
        """Start the process, and send it what was taught so far.

        Args:
            store: holds the labels.
            model: what answers now.
            checkpoint: training to continue. None starts afresh.
            classes: returns the class names by index.
            last_seq: returns the last label that was learned.
        """
        metadata = {**self._settings, "upto": checkpoint.upto if checkpoint else 0}
        weights = (checkpoint.weights if checkpoint else None) or model.weights
        self._sync = TrainerSync(
            self.process,
            store,
            classes,
            last_seq,
            checkpoint,
            metadata,
            named(weights, "weights"),
        )
        self._send(0, pack("budget", self._budget, {}))

    def learn(self, batch: LabelledBatch, *, with_features: bool) -> None:
        """Hand labels over to the process.

        Args:
            batch: the labels.
            with_features: hand over the features too. They must be those of the exported network.
        """
        train = batch.to_train()
        if self._sync is None or not train.labels:
            return
        features = train.features.features if with_features else np.zeros((0,), np.float32)
        arrays = {
            "records": with_seq(train.records, train.seqs),
            "indices": train.indices,
            "features": features,
        }
        upto = int(train.seqs[-1])
        self._send(upto, pack("learn", {"upto": upto}, arrays))

    def set_budget(self, steps_per_s: float, *, paused: bool = False, **schedule: Any) -> None:
        """Tell the process how many steps it may do, and at which levels."""
        budget = {"steps_per_s": min(steps_per_s, _UNLIMITED), "paused": paused, **schedule}
        if budget != self._budget:
            self._budget = budget
            self._send(0, pack("budget", budget, {}))

    def consolidate(self, budget: ConsolidationBudget, schedule: Schedule) -> None:
        """Let the process train one cycle over its latent memory, and offer the result."""
        facts = {**vars(budget), "name": schedule.name, "shares": list(schedule.shares)}
        self._send(0, pack("consolidate", facts, {}))

    def stop_consolidating(self) -> None:
        """Let the process end its cycle now, and offer what it trained."""
        self._send(0, pack("stop", {}, {}))

    def restore(self, model: LearnedModel) -> None:
        """Let the process go on from what answers now."""
        arrays = {"rows": model.classifier.rehearsed, **named(model.weights, "weights")}
        self._send(0, pack("restore", {}, arrays))

    def reap(self) -> bool:
        """Notice that the process died. Return whether it did, once for each death."""
        if not self.process.reap():
            return False
        self._end_sync()
        self.report = {**self.report, "cycle": None} if self.report else {}
        return True

    def poll(self, on_divergence: Callable[[], None]) -> None:
        """Take in what the process has sent.

        Args:
            on_divergence: called if training diverged.
        """
        while not self.process.inbox.empty():
            message = self.process.inbox.get()
            kind, metadata, _ = message
            if kind == "report":
                new = zip(metadata.pop("steps"), metadata.pop("steps_s"), strict=True)
                for level, (steps, seconds) in enumerate(new):
                    self.n_steps[level] += steps
                    self.steps_s[level] += seconds
                self.report = metadata
            elif kind == "diverged":
                on_divergence()
            elif kind == "consolidated":
                self.consolidated = metadata
            elif kind == "candidate":
                if self.candidate is not None and self.candidate[1].get("consolidated"):
                    metadata["consolidated"] = True  # it has the result of that cycle, too
                self.candidate = message

    def stop(self) -> None:
        """End the process and drop what it sent, because labels are taken back."""
        self.process.dismiss()
        self._end_sync()
        self.candidate, self.report = None, {}

    def close(self) -> None:
        """End the process for good."""
        self.process.kill()
        self._end_sync()

    def _send(self, upto: int, message: bytes) -> None:
        if self._sync is not None:
            self._sync.send(upto, message)

    def _end_sync(self) -> None:
        if self._sync is not None:
            self._sync.cancel()
            self._sync = None


def candidate_of(message: Message, feature_width: int) -> Candidate:
    """Return the candidate in a message. Its arrays lie in memory that the trainer has written."""
    _, metadata, arrays = message
    means = ClassMeans(feature_width)
    means.sums, means.counts = np.array(arrays["means.sums"]), np.array(arrays["means.counts"])
    return Candidate(
        weights=group(arrays, "weights"),
        rehearsed=arrays["rows"],
        means=means,
        unknown_below=float(metadata["unknown_below"]),
        has_moved=bool(metadata["has_moved"]),
    )


def checkpoint_of(message: Message) -> TrainerCheckpoint:
    """Return the training of a candidate that was published. Its arrays are copies."""
    _, metadata, arrays = message
    return TrainerCheckpoint(
        upto=int(metadata["upto"]),
        seqs=np.array(arrays["memory.seqs"]),
        labels=np.array(arrays["memory.labels"]),
        memory=metadata["memory"],
        weights=None,
        rehearsed=np.array(arrays["rows"]),
        prior=np.array(arrays["prior"]),
        progress={"cost": metadata["cost"], "credit_macs": 0.0, "next_publish": 64.0},
    )
