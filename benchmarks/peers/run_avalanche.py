"""Avalanche's nearest class mean, streaming LDA and replay; run by a Python that has it."""

from __future__ import annotations

import importlib.metadata
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.peers.exchange import CHUNK, Features, row, serve
from benchmarks.peers.torchvision_import import make_importable

make_importable()
from avalanche.benchmarks import benchmark_from_datasets  # noqa: E402
from avalanche.benchmarks.utils import as_classification_dataset, make_avalanche_dataset  # noqa: E402
from avalanche.benchmarks.utils.data_attribute import DataAttribute  # noqa: E402
from avalanche.models import NCMClassifier  # noqa: E402
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin  # noqa: E402
from avalanche.training.storage_policy import ClassBalancedBuffer  # noqa: E402
from avalanche.training.supervised import Naive, StreamingLDA  # noqa: E402


def nearest_mean(features: Features) -> dict[str, Any]:
    """NCMClassifier with the means of unit features, as its own plugins compute them."""
    unit = features.unit()
    model = NCMClassifier(normalize=True)

    def learn() -> None:
        means = {int(c): torch.from_numpy(unit.x[unit.y == c].mean(0)) for c in np.unique(unit.y)}
        model.replace_class_means_dict(means)

    return row("nearest class mean", unit, learn, lambda: _answers(model, unit.test_x))


def streaming_lda(features: Features) -> dict[str, Any]:
    """StreamingLDA with its default shrinkage; one mini-batch, as it inverts at every one."""
    strategy = StreamingLDA(
        slda_model=torch.nn.Identity(), criterion=torch.nn.CrossEntropyLoss(),
        input_size=features.x.shape[1], num_classes=features.n_classes,
        train_mb_size=len(features.y), evaluator=_silent(),
    )  # fmt: skip
    experience = _experiences(replace(features, starts=(0,)))[0]
    return row(
        "streaming LDA", features, lambda: strategy.train(experience),
        lambda: _answers(strategy.predict, features.test_x),
    )  # fmt: skip


def replay(features: Features) -> dict[str, Any]:
    """Naive with ReplayPlugin on a linear layer, four epochs an experience.

    Its loader goes on through an epoch until the larger of experience and memory is used up, and
    draws the smaller again: a chunk as an experience would be trained on many times over.
    """
    unit = features.unit()
    scaled = replace(unit, x=16 * _with_one(unit.x), test_x=16 * _with_one(unit.test_x))
    capacity = 8_000_000 // (4 * features.x.shape[1] + 4)
    model = torch.nn.Linear(scaled.x.shape[1], features.n_classes, bias=False)
    torch.nn.init.zeros_(model.weight)
    buffer = ClassBalancedBuffer(max_size=capacity, adaptive_size=True)
    plugin = ReplayPlugin(capacity, batch_size=CHUNK, batch_size_mem=64, storage_policy=buffer)
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1 / 16, momentum=0.9),
        criterion=torch.nn.CrossEntropyLoss(), train_mb_size=CHUNK, train_epochs=4,
        evaluator=_silent(), plugins=[plugin],
    )  # fmt: skip
    experiences = _experiences(scaled)

    def learn() -> None:
        for experience in experiences:
            strategy.train(experience)

    return row("feature replay", scaled, learn, lambda: _answers(model, scaled.test_x))


def _experiences(features: Features) -> list[Any]:
    sets = []
    for start, end in itertools.pairwise([*features.starts, len(features.y)]):
        x = torch.from_numpy(np.ascontiguousarray(features.x[start:end]))
        y = torch.from_numpy(features.y[start:end].astype(np.int64))
        data = make_avalanche_dataset(
            torch.utils.data.TensorDataset(x, y),
            data_attributes=[
                DataAttribute(y.tolist(), "targets"),
                DataAttribute([0] * len(y), "targets_task_labels", use_in_getitem=True),
            ],
        )
        sets.append(as_classification_dataset(data))
    return list(benchmark_from_datasets(train=sets).train_stream)


def _answers(model: Any, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(np.ascontiguousarray(x))).argmax(1).numpy())


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1, dtype=np.float32)


def _silent() -> Any:
    return EvaluationPlugin(loggers=[])


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(
        {"ncm": nearest_mean, "lda": streaming_lda, "replay": replay},
        importlib.metadata.version("avalanche-lib"),
    )
