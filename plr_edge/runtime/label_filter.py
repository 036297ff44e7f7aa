"""Admission: which labels look like mistakes. NumPy only.

A label is set aside when its frame is unlike its own class and as like another as that one's own
frames are. Nothing is refused: a quarantined label is kept, listed, and can be confirmed. The idea
to keep a memory pure before rehearsing from it is of Self-Purified Replay (Kim et al., ICCV 2021).
"""

from __future__ import annotations

import numpy as np

_FEW = 10  # labels of a class before anything is held against it
_FAR = 3.0  # standard deviations below what is usual for the class
_NEAR = 1.0
_MOST = 2.0  # standard deviations that one label may move the figures by
_LEAST_SPREAD = 0.02
_MEMORY = 50  # labels that the running figures reach back


class LabelFilter:
    """Running mean and spread, by class, of the cosine between its frames and its mean."""

    def __init__(self) -> None:
        self.counts: np.ndarray = np.zeros(0, np.int64)  # (K,)
        self.means: np.ndarray = np.zeros(0, np.float32)
        self.variances: np.ndarray = np.zeros(0, np.float32)

    def suspects(self, cosines: np.ndarray, label: int) -> bool:
        """Say whether a frame with these cosines (K,) to the class means seems mislabelled."""
        n = min(len(cosines), len(self.counts))
        if label >= n or self.counts[label] < _FEW:
            return False
        spread = np.sqrt(self.variances[:n]) + _LEAST_SPREAD
        far = cosines[label] < self.means[label] - _FAR * spread[label]
        near = (self.counts[:n] >= _FEW) & (cosines[:n] > self.means[:n] - _NEAR * spread)
        near[label] = False
        return bool(far and near.any())

    def accept(self, cosines: np.ndarray, label: int) -> None:
        """Take the cosines (K,) of an accepted frame into the figures of its class."""
        missing = label + 1 - len(self.counts)
        if missing > 0:
            self.counts = np.pad(self.counts, (0, missing))
            self.means, self.variances = (
                np.pad(a, (0, missing)) for a in (self.means, self.variances)
            )
        if label >= len(cosines) or cosines[label] <= -1.0:
            return  # the first frame of a class has no mean to be near to
        self.counts[label] += 1
        rate = 1.0 / min(self.counts[label], _MEMORY)
        apart = cosines[label] - self.means[label]
        if self.counts[label] > _FEW:  # so that a run of mistakes does not become usual
            most = _MOST * (np.sqrt(self.variances[label]) + _LEAST_SPREAD)
            apart = np.clip(apart, -most, most)
        self.means[label] += rate * apart
        self.variances[label] += rate * (apart * (1 - rate) * apart - self.variances[label])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the figures."""
        return {"counts": self.counts, "means": self.means, "variances": self.variances}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `to_arrays` gave."""
        self.counts, self.means, self.variances = (
            np.array(arrays[name]) for name in ("counts", "means", "variances")
        )
