"""Predictions: what a learned model answers, given the features of frames. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.unknown_threshold import is_unknown
from plr_edge.stream.base import Frame
from plr_edge.stream.names import UNKNOWN as UNKNOWN

_TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one frame.

    Attributes:
        source: source of the frame.
        label: the best class, or `unknown` if the frame resembles no class.
        confidence: confidence of the best class, 0..1, not calibrated.
        top: the best classes with their confidences, best first, also for an unknown frame.
        similarity: largest cosine similarity to a class mean.
        stamp_ns: time stamp of the frame.
        latency_ms: time from image to answer. Frames of a batch share it equally.
        version: version of the model that answered.
    """

    source: str
    label: str
    confidence: float
    top: tuple[tuple[str, float], ...]
    similarity: float
    stamp_ns: int
    latency_ms: float
    version: int

    def to_dict(self) -> dict[str, Any]:
        """Return what `plr-edge predict` prints."""
        return {
            "source": self.source,
            "class": self.label,
            "confidence": round(self.confidence, 4),
            "top": [[name, round(p, 4)] for name, p in self.top],
            "stamp_ns": self.stamp_ns,
            "latency_ms": round(self.latency_ms, 2),
            "version": self.version,
        }


@dataclass(frozen=True)
class FrozenOutput:
    """Output of the frozen part, which never changes. Any thread may compute it.

    Attributes:
        frames: the n frames.
        latents: (n, *latent shape) float32.
        taps: (n, T) float32 intermediate features: pooled outputs of frozen blocks.
        began_ns: `time.perf_counter_ns` before the first frame was prepared.
    """

    frames: tuple[Frame, ...]
    latents: np.ndarray
    taps: np.ndarray
    began_ns: int


@dataclass(frozen=True)
class Features:
    """Outputs of the frozen and the adaptive part for n frames.

    Attributes:
        latents: (n, *latent shape) float32.
        taps: (n, T) float32 intermediate features: pooled outputs of frozen blocks.
        features: (n, D) float32, output of the adaptive part.
    """

    latents: np.ndarray
    taps: np.ndarray
    features: np.ndarray

    def take(self, rows: slice | Sequence[int] | np.ndarray) -> Features:
        """Return the given rows of each array."""
        return Features(self.latents[rows], self.taps[rows], self.features[rows])


class AnsweringModel(Protocol):
    """The part of a learned model that answering needs."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names by index."""

    @property
    def classifier(self) -> CombinedClassifier:
        """Scores the classes."""

    @property
    def version(self) -> int:
        """Number of published candidates. At 0 the exported network answers."""


def answer(
    model: AnsweringModel,
    frames: Sequence[Frame],
    features: Features,
    cosines: np.ndarray | None = None,
    *,
    unknown: bool = True,
) -> list[Prediction]:
    """Turn features into predictions.

    Args:
        model: what answers.
        frames: n frames.
        features: their features, computed with the version of the model.
        cosines: (n, K) cosine similarities to the class means at the time of each frame. Computed
            with the class means of now by default.
        unknown: whether a frame that resembles no class is answered with `unknown`.

    Returns:
        One prediction for each frame, with a latency of 0.
    """
    parts = model.classifier.answer_many(features.taps, features.features, cosines)
    return [
        _prediction(model, frame, probabilities, float(similarity), unknown)
        for frame, probabilities, similarity in zip(frames, *parts, strict=True)
    ]


def _prediction(
    model: AnsweringModel,
    frame: Frame,
    probabilities: np.ndarray,
    similarity: float,
    unknown: bool,
) -> Prediction:
    best = np.argsort(-probabilities, kind="stable")[:_TOP_K]
    top = tuple((model.classes[k], float(probabilities[k])) for k in best if probabilities[k] > 0)
    strange = unknown and is_unknown(similarity, model.classifier.unknown_below)
    return Prediction(
        source=frame.source,
        label=top[0][0] if top and not strange else UNKNOWN,
        confidence=top[0][1] if top else 0.0,
        top=top,
        similarity=similarity,
        stamp_ns=frame.stamp_ns,
        latency_ms=0.0,
        version=model.version,
    )
