"""Quarantine: which labels look like mistakes and are not learned until confirmed. NumPy only.

A label is suspect if its frame is unlike its own class and as similar to another class as that
class's own frames are. A quarantined label is kept, listed, and can be confirmed. What the whole
classifier recognises leaves quarantine at once, see `status_after_answer`.

Source of the idea to keep a memory pure before rehearsing from it: Self-Purified Replay (Kim et
al., ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from plr_edge.store import LEARNED, Label

_MIN_LABELS = 10  # of a class, before a label of it can be suspect
_FAR = 3.0  # standard deviations below the usual similarity to the own class
_NEAR = 1.0
_MAX_SHIFT = 2.0  # standard deviations by which one label may move the statistics
_MIN_SPREAD = 0.02
_WINDOW = 50  # labels that the running statistics reach back


class LabelFilter:
    """Running mean and variance of the cosine similarity between frames and their class mean.

    Attributes:
        counts: (K,) int64 labels taken into account, by class.
        means: (K,) float32.
        variances: (K,) float32.
    """

    def __init__(self) -> None:
        """Start without classes."""
        self.counts: np.ndarray = np.zeros(0, np.int64)
        self.means: np.ndarray = np.zeros(0, np.float32)
        self.variances: np.ndarray = np.zeros(0, np.float32)

    def is_suspect(self, cosines: np.ndarray, label: int) -> bool:
        """Return whether a label looks like a mistake.

        Args:
            cosines: (K,) cosine similarities of the frame to the class means.
            label: class index that the frame was given.
        """
        n = min(len(cosines), len(self.counts))
        if label >= n or self.counts[label] < _MIN_LABELS:
            return False
        spread = np.sqrt(self.variances[:n]) + _MIN_SPREAD
        far = cosines[label] < self.means[label] - _FAR * spread[label]
        near = self.counts[:n] >= _MIN_LABELS
        near &= cosines[:n] > self.means[:n] - _NEAR * spread
        near[label] = False
        return bool(far and near.any())

    def update(self, cosines: np.ndarray, label: int) -> None:
        """Take an accepted label into account; see `is_suspect` for the arguments."""
        missing = label + 1 - len(self.counts)
        if missing > 0:
            self.counts = np.pad(self.counts, (0, missing))
            self.means, self.variances = (
                np.pad(a, (0, missing)) for a in (self.means, self.variances)
            )
        if label >= len(cosines) or cosines[label] <= -1.0:
            return  # the first frame of a class has no mean to compare with
        self.counts[label] += 1
        rate = 1.0 / min(self.counts[label], _WINDOW)
        apart = cosines[label] - self.means[label]
        if self.counts[label] > _MIN_LABELS:  # a run of mistakes must not become usual
            limit = _MAX_SHIFT * (np.sqrt(self.variances[label]) + _MIN_SPREAD)
            apart = np.clip(apart, -limit, limit)
        self.means[label] += rate * apart
        self.variances[label] += rate * (apart * (1 - rate) * apart - self.variances[label])

    def without_class(self, label: int) -> LabelFilter:
        """Return the statistics of the other classes; classes after it move up by one."""
        other = LabelFilter()
        keep = np.arange(len(self.counts)) != label
        other.restore({name: array[keep] for name, array in self.to_arrays().items()})
        return other

    def copy(self) -> LabelFilter:
        """Return an independent copy."""
        other = LabelFilter()
        other.restore(self.to_arrays())
        return other

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the statistics."""
        return {"counts": self.counts, "means": self.means, "variances": self.variances}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a copy of what `to_arrays` returned."""
        self.counts, self.means, self.variances = (
            np.array(arrays[name]) for name in ("counts", "means", "variances")
        )


def status_after_answer(label: Label) -> str:
    """Return the status of a label once the whole classifier has answered its frame.

    A label that the whole classifier recognises is not a mistake, though class means doubt it.
    """
    return LEARNED if label.predicted == label.name else label.status
