"""River's Gaussian naive Bayes; run by a Python that has it."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from river import naive_bayes

from benchmarks.peers.exchange import Features, row, serve

_MOST_TESTED = 500  # it answers in tens of milliseconds


def gaussian(features: Features) -> dict[str, Any]:
    """GaussianNB, a dictionary a sample."""
    few, model = features.first_tests(_MOST_TESTED), naive_bayes.GaussianNB()

    def learn() -> None:
        for x, y in zip(few.x, few.y, strict=True):
            model.learn_one(dict(enumerate(x.tolist())), int(y))

    def answer() -> np.ndarray:
        return np.array([model.predict_one(dict(enumerate(x.tolist()))) for x in few.test_x])

    return row("naive Bayes", few, learn, answer)


if __name__ == "__main__":
    serve({"nb": gaussian}, importlib.metadata.version("river"))
