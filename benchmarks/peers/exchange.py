"""What passes between us and a peer's process: features in, rows out. NumPy only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 16


@dataclass(frozen=True)
class Features:
    """A stream of features and the held-out ones; unit length where a method asks for it.

    Attributes:
        x: (n, D) float32, in the order of the stream.
        y: (n,) int64 class indices.
        test_x: (m, D) float32.
        test_y: (m,) int64.
        starts: first frame of each experience, for what hears of them.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    starts: tuple[int, ...] = (0,)

    @property
    def n_classes(self) -> int:
        """Classes in all."""
        return int(max(self.y.max(), self.test_y.max())) + 1

    def unit(self) -> Features:
        """Return the same with rows of length 1."""
        x, test = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (self.x, self.test_x))
        return replace(self, x=x, test_x=test)

    def first_tests(self, n: int) -> Features:
        """Return the same with about `n` of the held-out features, evenly taken."""
        every = max(1, len(self.test_y) // n)
        return replace(self, test_x=self.test_x[::every], test_y=self.test_y[::every])

    def write(self, file: Path) -> None:
        """Write an .npz."""
        np.savez(file, x=self.x, y=self.y, test_x=self.test_x, test_y=self.test_y,
                 starts=np.array(self.starts))  # fmt: skip


def read(file: Path) -> Features:
    """Read what `Features.write` wrote."""
    with np.load(file, allow_pickle=False) as kept:
        starts = tuple(kept["starts"].tolist())
        return Features(kept["x"], kept["y"], kept["test_x"], kept["test_y"], starts)


def row(
    method: str, features: Features, learn: Callable[[], None], answer: Callable[[], np.ndarray]
) -> dict[str, Any]:
    """Learn, answer, and return accuracy and microseconds of CPU a frame.

    Args:
        method: name of the pair that this belongs to.
        features: whose held-out labels judge.
        learn: takes the whole stream.
        answer: returns class indices of the held-out features.
    """
    start = time.process_time()
    learn()
    learned = time.process_time()
    answers = answer()
    answered = time.process_time()
    return {
        "method": method,
        "accuracy": float((np.asarray(answers) == features.test_y).mean()),
        "learn_us": 1e6 * (learned - start) / len(features.y),
        "answer_us": 1e6 * (answered - learned) / len(features.test_y),
        "n_learned": len(features.y),
        "n_answered": len(features.test_y),
    }


def serve(methods: dict[str, Callable[[Features], dict[str, Any]]], version: str) -> None:
    """Run a peer's methods: `python -m ... FEATURES.npz ROWS.json`."""
    features, target = read(Path(sys.argv[1])), Path(sys.argv[2])
    rows = []
    for name, method in methods.items():
        print(name, file=sys.stderr, flush=True)
        rows.append({**method(features), "version": version})
        target.write_text(json.dumps(rows))
