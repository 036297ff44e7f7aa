"""Labelled batches: labels with the features of their frames, on their way to being learned."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from plr_edge.runtime.prediction import Features
from plr_edge.store import TRAIN, Label


@dataclass
class History:
    """What was answered to each labelled frame before it was learned (prequential evaluation).

    Attributes:
        labels: class index of each frame.
        predicted: class index answered, -1 for `unknown`.
    """

    labels: array[int] = field(default_factory=lambda: array("i"))
    predicted: array[int] = field(default_factory=lambda: array("i"))

    def add(self, labels: Sequence[int], predicted: Sequence[int]) -> None:
        """Append frames."""
        self.labels.extend(labels)
        self.predicted.extend(predicted)

    def copy(self) -> History:
        """Return an independent copy."""
        return History(self.labels[:], self.predicted[:])

    @property
    def accuracy(self) -> float | None:
        """Share of right answers, the first frame of each class included. None without frames."""
        if not self.labels:
            return None
        return float(np.mean(np.equal(self.labels, self.predicted)))


@dataclass(frozen=True)
class LabelledBatch:
    """Acknowledged labels that are to be learned.

    Attributes:
        features: features of the n frames.
        records: (n, codec.record_bytes) uint8 packed latents.
        indices: (n,) int64 class indices.
        labels: the n labels with their numbers in the label log.
    """

    features: Features
    records: np.ndarray
    indices: np.ndarray
    labels: list[Label]

    def take(self, rows: np.ndarray) -> LabelledBatch:
        """Return the given rows."""
        labels = [self.labels[i] for i in rows]
        return LabelledBatch(
            self.features.take(rows), self.records[rows], self.indices[rows], labels
        )

    def after(self, seq: int) -> LabelledBatch:
        """Return the labels after a number in the label log."""
        return self.take(np.flatnonzero(self.seqs > seq))

    def to_train(self) -> LabelledBatch:
        """Return the labels to train on, without those to hold out."""
        return self.take(np.flatnonzero([label.use == TRAIN for label in self.labels]))

    @property
    def seqs(self) -> np.ndarray:
        """(n,) int64 numbers in the label log."""
        return np.array([label.seq for label in self.labels], np.int64)
