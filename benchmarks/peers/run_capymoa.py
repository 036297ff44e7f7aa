"""CapyMOA's class means, LDA, replay, naive Bayes and neighbours; run by a Python that has it."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import torch

from benchmarks.peers.exchange import CHUNK, Features, row, serve
from benchmarks.peers.torchvision_import import make_importable

make_importable()
from capymoa.classifier import KNN, NaiveBayes  # noqa: E402
from capymoa.core import LabeledInstance  # noqa: E402
from capymoa.ocl.strategy import NCM, SLDA  # noqa: E402
from capymoa.stream import Schema  # noqa: E402

_MOST_TESTED = 500  # by the methods that answer instance by instance


def nearest_mean(features: Features) -> dict[str, Any]:
    """NCM on unit features."""
    return _batches("nearest class mean", NCM(_schema(features)), features.unit())


def streaming_lda(features: Features) -> dict[str, Any]:
    """SLDA as it is."""
    return _batches("streaming LDA", SLDA(_schema(features)), features)


def naive_bayes(features: Features) -> dict[str, Any]:
    """MOA's Gaussian naive Bayes."""
    return _instances("naive Bayes", NaiveBayes(_schema(features)), features)


def neighbours(features: Features) -> dict[str, Any]:
    """MOA's five nearest neighbours of the whole stream."""
    learner = KNN(_schema(features), k=5, window_size=len(features.y))
    return _instances("k nearest neighbours", learner, features.unit())


def _batches(name: str, learner: Any, features: Features) -> dict[str, Any]:
    x, y = torch.from_numpy(features.x), torch.from_numpy(features.y.astype(np.int64))

    def learn() -> None:
        for start in range(0, len(y), CHUNK):
            learner.batch_train(x[start : start + CHUNK], y[start : start + CHUNK])

    def answer() -> np.ndarray:
        test = torch.from_numpy(np.ascontiguousarray(features.test_x))
        return np.asarray(learner.batch_predict_proba(test).argmax(1).numpy())

    return row(name, features, learn, answer)


def _instances(name: str, learner: Any, features: Features) -> dict[str, Any]:
    few, schema = features.first_tests(_MOST_TESTED), learner.schema

    def learn() -> None:
        for x, y in zip(few.x.astype(np.float64), few.y, strict=True):
            learner.train(LabeledInstance.from_array(schema, x, int(y)))

    def answer() -> np.ndarray:
        answers = [
            learner.predict(LabeledInstance.from_array(schema, x, 0))
            for x in few.test_x.astype(np.float64)
        ]
        return np.array([-1 if a is None else a for a in answers])

    return row(name, few, learn, answer)


def _schema(features: Features) -> Any:
    names = [f"x{i}" for i in range(features.x.shape[1])]
    classes = [str(c) for c in range(features.n_classes)]
    return Schema.from_custom([*names, "class"], "class", {"class": classes})


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(
        {"ncm": nearest_mean, "lda": streaming_lda, "nb": naive_bayes, "knn": neighbours},
        importlib.metadata.version("capymoa"),
    )
