"""Methods that fit a classifier to a feature of the frozen network and train no block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks.data.encoded import Split
from benchmarks.methods.base import Gathering, Method
from benchmarks.methods.closed_forms import NearestMean, RandomFeatureRidge, TunedLda, TunedRidge
from benchmarks.methods.scikit import NaiveBayes, NearestNeighbours, Perceptron
from benchmarks.methods.softmax import Softmax
from benchmarks.methods.vae_classifier import VaeClassifier
from benchmarks.scenarios import Benchmark
from plr_edge.config import LearningConfig


class FeatureClassifier(Protocol):
    """A classifier that learns from a stream of features."""

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn (n, D) float32 features of (n,) class indices."""
        ...

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return (n, K) scores, the largest for the answer."""
        ...

    @property
    def n_bytes(self) -> int:
        """Bytes kept for further learning."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-adds spent on learning so far."""
        ...


def _naive_softmax(width: int, n_classes: int, **tuned: Any) -> Softmax:
    return Softmax(width, n_classes, n_rehearsed=0, **{"lr": 0.1, **tuned})


# by name: width, classes -> classifier
FEATURE_CLASSIFIERS: dict[str, Callable[..., FeatureClassifier]] = {
    "nearest class mean": NearestMean,
    "streaming LDA": TunedLda,
    "ridge": TunedRidge,
    "random-feature ridge": RandomFeatureRidge,
    "k nearest neighbours": NearestNeighbours,
    "perceptron": Perceptron,
    "naive Bayes": NaiveBayes,
    "naive linear classifier": _naive_softmax,
    "feature replay": Softmax,
}


class OnFeature(Method):
    """A feature classifier over the last layer of the exported network, or over the taps."""

    def __init__(
        self,
        benchmark: Benchmark,
        config: LearningConfig,
        *,
        classifier: str,
        read: str = "features",
        **tuned: Any,
    ) -> None:
        super().__init__(benchmark, config)
        self._read = read
        width = self._x(benchmark.test).shape[1]
        self._classifier = FEATURE_CLASSIFIERS[classifier](width, len(benchmark.classes), **tuned)

    def learn(self, split: Split) -> None:
        """Learn a chunk; see `Method`."""
        self._classifier.learn_many(self._x(split), split.labels)
        self.n_taught += len(split.labels)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        return {"": self._classifier.scores_many(self._x(split)).argmax(1)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        classifier = self._classifier
        return {"memory_bytes": float(classifier.n_bytes), "macs": float(classifier.macs)}

    def _x(self, split: Split) -> np.ndarray:
        return np.asarray(getattr(split.seen, self._read))


class VaePerClass(Gathering):
    """A generative classifier: each class gets its own VAE when its experience has ended."""

    def __init__(self, benchmark: Benchmark, config: LearningConfig) -> None:
        super().__init__(benchmark, config)
        self._classifier = VaeClassifier(benchmark.test.seen.latents.shape[1], seed=config.seed)

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train a VAE for each class; see `Gathering`."""
        self._classifier.learn_many(x, y)

    def answers(self, split: Split) -> dict[str, np.ndarray]:
        """Answer; see `Method`."""
        if not self._classifier.n_bytes:
            return {"": np.zeros(len(split.labels), np.int64)}
        return {"": self._classifier.scores_many(np.array(split.seen.latents)).argmax(1)}

    def costs(self) -> dict[str, float]:
        """Return costs; see `Method`."""
        classifier = self._classifier
        return {"memory_bytes": float(classifier.n_bytes), "macs": float(classifier.macs)}
