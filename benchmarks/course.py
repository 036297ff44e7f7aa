"""One course: a contender passes over a task, and its figures are taken. Knows no method."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from benchmarks.contenders import Method
from benchmarks.datasets import Part
from benchmarks.scenarios import Task
from plr_edge.meters import find_power_meters
from plr_edge.metrics import backward_transfer, forgetting

_CHUNK = 16
_MOST_EVALUATED = 400  # held-out frames after each experience
_MOST_FINAL = 4000  # at the end
_MOST_SAID_FIRST = 30  # chunks that are answered before they are learned
_FIRST_FRAMES = (1, 5, 20)
_EACH_OF_A_CLASS = 10  # held-out frames of a class that has just been met
_MOST_EXPERIENCES = 20  # after which the matrix is filled in
Row = dict[str, Any]


@dataclass
class PeakMemory:
    """Resident memory of this process at the start and at its highest, sampled on a thread."""

    start_bytes: int = 0
    peak_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> PeakMemory:
        process = psutil.Process()
        self.start_bytes = self.peak_bytes = process.memory_info().rss

        def watch() -> None:
            while not self._stop.wait(0.05):
                self.peak_bytes = max(self.peak_bytes, process.memory_info().rss)

        threading.Thread(target=watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()


def final_accuracy(contender: Method, task: Task, n_tested: int) -> float:
    """Teach everything without looking; return what the best of its answers gets right."""
    for start, end in task.experiences:
        for at in range(start, end, _CHUNK):
            contender.learn(task.train.take(np.arange(at, min(at + _CHUNK, end))))
        contender.new_experience()
    contender.finish()
    n = len(task.test.labels)
    test = task.test.take(np.arange(0, n, max(1, n // n_tested)))
    return max(float((a == test.labels).mean()) for a in contender.answers(test).values())


class Run:
    """One pass of a contender over a task, with looks at the held-out frames on the way."""

    def __init__(self, contender: Method, task: Task) -> None:
        self.contender, self.task = contender, task
        self.learn_s, self.answer_s, self.n_answered = 0.0, 0.0, 0
        self._clock_s, self._waited_s = 0.0, 0.0  # of the frozen part and of learning, no pauses
        self._waiting: list[tuple[float, int]] = []  # when frames came, and how many
        n = len(task.test.labels)
        self._few = task.test.take(np.arange(0, n, max(1, n // _MOST_EVALUATED)))
        self._experiences = task.experiences
        every = -(-len(self._experiences) // _MOST_EXPERIENCES)
        self._looked_at = range(every - 1, len(self._experiences), every)
        self._right_first: list[bool] = []
        self._say_every = max(_CHUNK, len(task.train.labels) // _MOST_SAID_FIRST)
        self._next_said = self._say_every
        self._after: dict[int, list[float]] = {n: [] for n in _FIRST_FRAMES}

    def run(self) -> Row:
        """Return the figures of the whole course."""
        meters, _ = find_power_meters()
        for meter in meters:
            meter.start()
        matrix, curve = self._pass()
        readings = [meter.stop() for meter in meters]
        n_taught = len(self.task.train.labels)
        facts: Row = {
            "variants": self._final(),
            "average_accuracy": float(np.mean([accuracy for _, accuracy in curve])),
            "curve": curve,
            "forgetting": _number(forgetting(matrix)),
            "backward_transfer": _number(backward_transfer(matrix)),
            "forward_transfer": _number(_forward(matrix, self._n_classes)),
            "prequential": float(np.mean(self._right_first)) if self._right_first else None,
            "learn_s": self.learn_s,
            "learned_after_s": self._waited_s / n_taught,
            "learn_ms_per_frame": 1e3 * self.learn_s / n_taught,
            "answer_ms_per_frame": 1e3 * self.answer_s / max(self.n_answered, 1),
            "frozen_ms_per_frame": 1e3 * self.task.frozen_s,
            **self.contender.costs(),
        }
        joules = [r.total_mj / 1e3 for r in readings if r.total_mj is not None]
        if joules:
            facts["joules"] = sum(joules)
        facts.update((f"after_{n}", float(np.mean(v))) for n, v in self._after.items() if v)
        return facts

    def _pass(self) -> tuple[np.ndarray, list[list[float]]]:
        """Teach everything; return the accuracy matrix, and [frames, accuracy on classes met]."""
        first_met = self._class_groups()
        rows: list[list[float]] = []
        curve: list[list[float]] = []
        for at, (start, end) in enumerate(self._experiences):
            self._experience(start, end, one_class=len(self._experiences) == self._n_classes)
            if at in self._looked_at or at < len(self._experiences) - 1:
                self._timed(self.contender.new_experience)
            if at in self._looked_at:
                row, seen = self._look(first_met[: at + 1], first_met)
                rows.append(row)
                curve.append([end, seen])
        self._timed(self.contender.finish)
        return np.array(rows, float), curve

    @property
    def _n_classes(self) -> int:
        return len(np.unique(self.task.train.labels))

    def _class_groups(self) -> list[np.ndarray]:
        """Return the classes that each looked-at group of experiences meets first."""
        met: set[int] = set()
        groups = []
        for start, end in self._experiences:
            own = set(self.task.right_labels[start:end].tolist())
            groups.append(np.array(sorted(own - met), np.int64))
            met |= own
        return groups

    def _experience(self, start: int, end: int, *, one_class: bool) -> None:
        at = start
        first = [1, 4, 15] if one_class else []
        while at < end:
            size = first.pop(0) if first else _CHUNK
            chunk = self.task.train.take(np.arange(at, min(at + size, end)))
            if at >= self._next_said > 0:  # say first, then learn
                self._next_said += self._say_every
                self._right_first += (self._answers(chunk) == chunk.labels).tolist()
            self._waiting.append((self._clock_s, len(chunk.labels)))
            self._clock_s += len(chunk.labels) * self.task.frozen_s
            self._timed(self.contender.learn, chunk)
            at += len(chunk.labels)
            if one_class and at - start in self._after:
                label = int(self.task.right_labels[at - 1])
                own = np.flatnonzero(self.task.test.labels == label)[:_EACH_OF_A_CLASS]
                right = self._answers(self.task.test.take(own)) == label
                self._after[at - start].append(float(right.mean()))

    def _look(
        self, groups: list[np.ndarray], all_groups: list[np.ndarray]
    ) -> tuple[list[float], float]:
        """Return accuracy on each group's classes, and on all classes met so far."""
        right = self._answers(self._few) == self._few.labels
        labels = self._few.labels
        looked = [np.concatenate(all_groups[max(0, i - self._looked_at.step + 1) : i + 1])
                  for i in self._looked_at]  # fmt: skip
        row = [_mean(right[np.isin(labels, group)]) for group in looked]
        return row, _mean(right[np.isin(labels, np.concatenate(groups))])

    def _final(self) -> dict[str, float]:
        n = len(self.task.test.labels)
        most = getattr(self.contender, "MOST_TESTED", _MOST_FINAL)
        part = self.task.test.take(np.arange(0, n, max(1, n // most)))
        answers = self.contender.answers(part)
        return {name: float((a == part.labels).mean()) for name, a in answers.items()}

    def _answers(self, part: Part) -> np.ndarray:
        start = time.perf_counter()
        answers = self.contender.answers(part)[""]
        self.answer_s += time.perf_counter() - start
        self.n_answered += len(part.labels)
        return answers

    def _timed(self, act: Callable[..., None], *arguments: Any) -> None:
        start = time.perf_counter()
        act(*arguments)
        spent = time.perf_counter() - start
        self.learn_s += spent
        self._clock_s += spent
        if not self.contender.n_waiting:
            self._waited_s += sum(n * (self._clock_s - came) for came, n in self._waiting)
            self._waiting.clear()


def _forward(matrix: np.ndarray, n_classes: int) -> float:
    """Return the mean accuracy on what comes next, above chance (Lopez-Paz and Ranzato, 2017)."""
    coming = np.diag(matrix, 1)
    coming = coming[~np.isnan(coming)]  # an experience may meet no new class
    return float(coming.mean() - 1 / n_classes) if len(coming) else float("nan")


def _mean(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
