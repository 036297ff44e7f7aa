"""TailSamples: the newest samples of each class, to evaluate what was learned without them.

Neighbours in time are alike: of a film, single frames held out are twins of those that were
learned, and any classifier looks right on them. Held out here is the end of each class in time,
behind a gap that is left out too. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_HELD_SHARE = 0.15  # of the samples of a class
_MIN_SAMPLES = 4  # of a class, for one of them to be held out
_MIN_FOR_GAP = 10  # the gap is a third of what is held out
_MAX_HELD = 600


class TailSamples:
    """The newest samples of each class in the order they came, as float16.

    Attributes:
        width: length of a sample.
        counts: number of samples seen by class.
    """

    def __init__(self, width: int) -> None:
        """Start empty.

        Args:
            width: length of a sample.
        """
        self.width = width
        self.counts: dict[int, int] = {}
        self._samples: dict[int, list[np.ndarray]] = {}

    def add_many(self, samples: np.ndarray, labels: np.ndarray) -> None:
        """Add samples (n, width) with class indices (n,), the newest last."""
        halved: np.ndarray = samples.astype(np.float16)
        for label, sample in zip(labels.tolist(), list(halved), strict=True):
            self.counts[label] = self.counts.get(label, 0) + 1
            own = self._samples.setdefault(label, [])
            own.append(sample)
            del own[: max(0, len(own) - sum(self._sizes(label)))]

    def held_out(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what to take out before evaluating, and which of it to evaluate with.

        Returns:
            samples: (n, width) float32.
            labels: (n,) int64 class indices.
            evaluated: (n,) bool, False for samples of a gap.
        """
        samples, labels, evaluated = list[np.ndarray](), list[int](), list[bool]()
        for label, own in self._samples.items():
            n_held, n_gap = self._sizes(label)
            last = own[max(0, len(own) - n_held - n_gap) :]
            samples += last
            labels += [label] * len(last)
            evaluated += [len(last) - i <= n_held for i in range(len(last))]
        stacked = np.stack(samples) if samples else np.zeros((0, self.width))
        return stacked.astype(np.float32), np.array(labels, np.int64), np.array(evaluated, bool)

    @property
    def covered_share(self) -> float:
        """Share of the classes of which samples are held: not all, once these were dropped."""
        held = sum(bool(own) for own in self._samples.values())
        return held / max(len(self.counts), 1)

    def without_class(self, label: int) -> TailSamples:
        """Return the samples of the other classes; classes after it move up by one."""
        other = TailSamples(self.width)
        for old, n in self.counts.items():
            if old != label:
                new = old - (old > label)
                other.counts[new] = n
                other._samples[new] = list(self._samples.get(old, ()))
        return other

    def counts_to_arrays(self) -> dict[str, np.ndarray]:
        """Return what `restore` needs to count on, without a sample."""
        empty = TailSamples(self.width)
        empty.counts = self.counts
        return empty.to_arrays()

    def copy(self) -> TailSamples:
        """Return an independent copy."""
        other = TailSamples(self.width)
        other.counts = dict(self.counts)
        other._samples = {label: list(own) for label, own in self._samples.items()}
        return other

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what `restore` needs."""
        rows = [(label, sample) for label, own in self._samples.items() for sample in own]
        samples = [sample for _, sample in rows]
        return {
            "samples": np.stack(samples) if samples else np.zeros((0, self.width), np.float16),
            "labels": np.array([label for label, _ in rows], np.int64),
            "counts": np.array([*self.counts.items()], np.int64).reshape(-1, 2),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from what `to_arrays` returned."""
        self.counts = {int(label): int(n) for label, n in arrays["counts"]}
        self._samples = {}
        for sample, label in zip(arrays["samples"], arrays["labels"].tolist(), strict=True):
            self._samples.setdefault(label, []).append(np.array(sample))

    def _sizes(self, label: int) -> tuple[int, int]:
        """Return how many samples of a class are held out, and how many lie in its gap."""
        n, at_most = self.counts[label], max(1, _MAX_HELD // len(self.counts))
        if n < _MIN_SAMPLES:
            return 0, 0
        n_held = max(1, min(round(_HELD_SHARE * n), at_most))
        return n_held, -(-n_held // 3) if n >= _MIN_FOR_GAP else 0
