"""What was taught: labels with what perception made of their frames. NumPy only."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plr_edge.runtime.perception import Features
from plr_edge.store import Label


@dataclass
class History:
    """Prequential record: what was said to each labelled frame before it was learned.

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

    @property
    def accuracy(self) -> float | None:
        """Share answered rightly, first sights of a class included; None before the first."""
        if not self.labels:
            return None
        return float(np.mean(np.equal(self.labels, self.predicted)))


@dataclass(frozen=True)
class LabelledBatch:
    """Acknowledged labels that are to be learned, a row each.

    Attributes:
        seen: what perception made of the frames.
        records: (n, codec.record_bytes) uint8.
        indices: (n,) int64 class indices.
        labels: with their places in the label log.
    """

    seen: Features
    records: np.ndarray
    indices: np.ndarray
    labels: list[Label]

    def take(self, rows: np.ndarray) -> LabelledBatch:
        """Return some rows of each."""
        labels = [self.labels[i] for i in rows]
        return LabelledBatch(self.seen.take(rows), self.records[rows], self.indices[rows], labels)

    @property
    def seqs(self) -> np.ndarray:
        """(n,) int64 places in the label log."""
        return np.array([label.seq for label in self.labels], np.int64)


class Undo:
    """What has to be put back where a batch is refused."""

    def __init__(self, knowledge: Any) -> None:
        self._knowledge = knowledge
        self._means = copy.deepcopy(knowledge.classifier.means)
        self._admission = copy.deepcopy(knowledge.admission)
        self._canary = knowledge.canary.to_facts()
        self._n_classes = len(knowledge.classes)

    def restore(self) -> None:
        """Put it back."""
        knowledge = self._knowledge
        knowledge.classifier.means = self._means
        knowledge.admission = self._admission
        knowledge.canary.restore(self._canary)
        del knowledge.classes[self._n_classes :]


def finite_rows(seen: Features) -> list[bool]:
    """Say of each frame whether all that perception made of it is a number."""
    parts = (seen.latents, seen.taps, seen.features)
    each = [np.isfinite(part.reshape(len(part), -1)).all(1) for part in parts]
    return [bool(x) for x in np.logical_and.reduce(each)]
