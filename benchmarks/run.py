"""One run: a method passes over a benchmark and is measured. Knows no particular method."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Method
from benchmarks.scenarios import Benchmark
from plr_edge.meters import find_power_meters, process_memory
from plr_edge.metrics import backward_transfer, forgetting

_CHUNK = 16
_MOST_EVALUATED = 400  # held-out frames after each experience
_MOST_SAID_FIRST = 30  # chunks that are answered before they are learned
_FIRST_FRAMES = (1, 5, 20)
_EACH_OF_A_CLASS = 10  # held-out frames of a class that was met just now
_MOST_EXPERIENCES = 20  # rows of the accuracy matrix
Row = dict[str, Any]


@dataclass
class PeakMemory:
    """Resident memory of this process at the start and at its peak, sampled on a thread."""

    start_bytes: int = 0
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> PeakMemory:
        self.start_bytes = self.peak_bytes = rss_bytes()

        def watch() -> None:
            while not self._stop.wait(0.05):
                self.peak_bytes = max(self.peak_bytes, rss_bytes())

        threading.Thread(target=watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()


def rss_bytes() -> int:
    """Return the resident memory of this process, 0 if it cannot be read."""
    return process_memory(walk=False).get("rss_bytes", 0)


def final_accuracy(method: Method, benchmark: Benchmark, n_tested: int) -> float:
    """Teach everything without evaluations; return the accuracy of the best variant."""
    for start, end in benchmark.experiences:
        for at in range(start, end, _CHUNK):
            method.learn(benchmark.train.take(np.arange(at, min(at + _CHUNK, end))))
        method.new_experience()
    method.finish()
    test = benchmark.test.every(n_tested)
    return max(float((a == test.labels).mean()) for a in method.answers(test).values())


class Run:
    """One pass of a method over a benchmark, evaluated on held-out frames on the way."""

    def __init__(self, method: Method, benchmark: Benchmark) -> None:
        self.method, self.benchmark = method, benchmark
        self.learn_s, self.answer_s, self.n_answered = 0.0, 0.0, 0
        self._clock_s, self._waited_s = 0.0, 0.0  # of the frozen part and of learning, no pauses
        self._waiting: list[tuple[float, int]] = []  # when frames came, and how many
        self._few = benchmark.test.every(_MOST_EVALUATED)
        self._experiences = benchmark.experiences
        every = -(-len(self._experiences) // _MOST_EXPERIENCES)
        self._evaluated = range(every - 1, len(self._experiences), every)
        self._right_first: list[bool] = []
        self._say_every = max(_CHUNK, len(benchmark.train.labels) // _MOST_SAID_FIRST)
        self._next_said = self._say_every
        self._after: dict[int, list[float]] = {n: [] for n in _FIRST_FRAMES}

    def run(self, most_tested: int | None = None) -> Row:
        """Run the whole stream.

        Args:
            most_tested: held-out frames of the final accuracy, None for all.

        Returns:
            What was measured, as JSON values.
        """
        meters, _ = find_power_meters()
        for meter in meters:
            meter.start()
        matrix, curve = self._pass()
        readings = [meter.stop() for meter in meters]
        n_taught = len(self.benchmark.train.labels)
        row: Row = {
            "variants": self._final(most_tested),
            "average_accuracy": float(np.mean([accuracy for _, accuracy in curve])),
            "curve": curve,
            "forgetting": _number(forgetting(matrix)),
            "backward_transfer": _number(backward_transfer(matrix)),
            "prequential": float(np.mean(self._right_first)) if self._right_first else None,
            "learn_s": self.learn_s,
            "learned_after_s": self._waited_s / n_taught,
            "learn_ms_per_frame": 1e3 * self.learn_s / n_taught,
            "answer_ms_per_frame": 1e3 * self.answer_s / max(self.n_answered, 1),
            "frozen_ms_per_frame": 1e3 * self.benchmark.frozen_s,
            **self.method.costs(),
            **self._perception_macs(),
            **self.method.details(),
        }
        joules = [r.total_mj / 1e3 for r in readings if r.total_mj is not None]
        if joules:
            row["joules"] = sum(joules)
        row.update((f"after_{n}", float(np.mean(v))) for n, v in self._after.items() if v)
        return row

    def _pass(self) -> tuple[np.ndarray, list[list[float]]]:
        """Teach everything; return the accuracy matrix, and [frames, accuracy on classes met]."""
        first_met = self._class_groups()
        rows: list[list[float]] = []
        curve: list[list[float]] = []
        one_class = len(self._experiences) == len(np.unique(self.benchmark.train.labels))
        for at, (start, end) in enumerate(self._experiences):
            self._experience(start, end, one_class=one_class)
            if at in self._evaluated or at < len(self._experiences) - 1:
                self._timed(self.method.new_experience)
            if at in self._evaluated:
                row, seen = self._evaluate(first_met[: at + 1], first_met)
                rows.append(row)
                curve.append([end, seen])
        self._timed(self.method.finish)
        return np.array(rows, float), curve

    def _class_groups(self) -> list[np.ndarray]:
        """Return the classes that each experience meets first."""
        met: set[int] = set()
        groups = []
        for start, end in self._experiences:
            own = set(self.benchmark.right_labels[start:end].tolist())
            groups.append(np.array(sorted(own - met), np.int64))
            met |= own
        return groups

    def _experience(self, start: int, end: int, *, one_class: bool) -> None:
        at, right_labels = start, self.benchmark.right_labels
        first = [1, 4, 15] if one_class else []
        while at < end:
            size = first.pop(0) if first else _CHUNK
            chunk = self.benchmark.train.take(np.arange(at, min(at + size, end)))
            if at >= self._next_said > 0:  # answer first, then learn
                self._next_said += self._say_every
                self._right_first += (self._answers(chunk) == chunk.labels).tolist()
            self._waiting.append((self._clock_s, len(chunk.labels)))
            self._clock_s += len(chunk.labels) * self.benchmark.frozen_s
            self._timed(self.method.learn, chunk)
            at += len(chunk.labels)
            if one_class and at - start in self._after:
                label = int(right_labels[at - 1])
                own = np.flatnonzero(self.benchmark.test.labels == label)[:_EACH_OF_A_CLASS]
                right = self._answers(self.benchmark.test.take(own)) == label
                self._after[at - start].append(float(right.mean()))

    def _evaluate(
        self, groups: list[np.ndarray], all_groups: list[np.ndarray]
    ) -> tuple[list[float], float]:
        """Return accuracy on each group's classes, and on all classes met so far."""
        right = self._answers(self._few) == self._few.labels
        labels, step = self._few.labels, self._evaluated.step
        columns = [
            np.concatenate(all_groups[max(0, i - step + 1) : i + 1]) for i in self._evaluated
        ]
        row = [_mean(right[np.isin(labels, group)]) for group in columns]
        return row, _mean(right[np.isin(labels, np.concatenate(groups))])

    def _final(self, most_tested: int | None) -> dict[str, float]:
        test = self.benchmark.test
        split = test.every(most_tested or len(test.labels))
        answers = self.method.answers(split)
        return {name: float((a == split.labels).mean()) for name, a in answers.items()}

    def _perception_macs(self) -> dict[str, float]:
        """Return the multiply-adds of perceiving a frame, where a bundle does it."""
        if self.benchmark.bundles is None:
            frozen = float(self.benchmark.frozen_macs)
            return {"perception_macs_per_frame": frozen} if frozen else {}
        bundle = self.benchmark.bundle
        blocks = sum(level.macs for level in bundle.levels)
        macs = bundle.manifest["frozen_macs"] + blocks if self.method.reads_latents else 0
        return {"perception_macs_per_frame": float(macs)}

    def _answers(self, split: Split) -> np.ndarray:
        start = time.perf_counter()
        answers = self.method.answers(split)[""]
        self.answer_s += time.perf_counter() - start
        self.n_answered += len(split.labels)
        return answers

    def _timed(self, act: Callable[..., None], *arguments: Any) -> None:
        start = time.perf_counter()
        act(*arguments)
        spent = time.perf_counter() - start
        self.learn_s += spent
        self._clock_s += spent
        if not self.method.n_waiting:
            self._waited_s += sum(n * (self._clock_s - came) for came, n in self._waiting)
            self._waiting.clear()


def _mean(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
