"""Hold-out set: latents of every class that are never trained on, to evaluate candidates with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory, seqs_of

_EVERY = 20  # labels of a class, of which one is held out
_FIRST = 10  # label of a class that is held out first


class HoldoutSet:
    """A class-balanced set of held-out labels.

    An entry consists of the packed latent, the float16 taps and the number in the label log.

    Attributes:
        codec: decodes the latents.
    """

    def __init__(
        self,
        codec: LatentCodec,
        taps_width: int,
        n: int,
        seed: int,
        *,
        keeps_samples: bool = True,
    ) -> None:
        """Start empty.

        Args:
            codec: decodes the latents.
            taps_width: T, the length of the taps.
            n: largest number of entries.
            seed: random seed of what is replaced when the set is full.
            keeps_samples: whether a state may hold the entries. They are in RAM in any case.
        """
        self.keeps_samples, self._size = keeps_samples, (n, seed)
        self.codec, self.taps_width = codec, taps_width
        self.record_bytes = codec.record_bytes + 2 * taps_width + SEQ_BYTES
        self._memory = LatentMemory(self.record_bytes, n * (self.record_bytes + 4), seed)
        self._offered: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._memory)

    def offer(self, label: int) -> bool:
        """Count the next label of a class, and return whether it is to be held out."""
        self._offered[label] = self._offered.get(label, 0) + 1
        return self._offered[label] % _EVERY == _FIRST

    def n_offered(self, label: int) -> int:
        """Return the number of labels of a class that were counted, held out or not."""
        return self._offered.get(label, 0)

    def add(self, record: np.ndarray, taps: np.ndarray, seq: int, label: int) -> None:
        """Hold a label out. It may replace an older one.

        Args:
            record: (codec.record_bytes,) uint8 packed latent.
            taps: (T,) floating point.
            seq: number in the label log.
            label: class index.
        """
        parts = [
            record,
            taps.astype(np.float16).view(np.uint8),
            np.array([seq], np.int64).view(np.uint8),
        ]
        self._memory.add(np.concatenate(parts), label)

    def without_class(self, label: int) -> HoldoutSet:
        """Return a set without the entries of a class; classes after it move up by one."""
        n, seed = self._size
        other = HoldoutSet(self.codec, self.taps_width, n, seed, keeps_samples=self.keeps_samples)
        for record, old in zip(self._memory.records(), self.labels.tolist(), strict=True):
            if old != label:
                other._memory.add(record, old - (old > label))
        other._offered = {k - (k > label): n for k, n in self._offered.items() if k != label}
        return other

    def copy(self) -> HoldoutSet:
        """Return an independent copy."""
        other = self.draft()
        other._memory = copy.deepcopy(self._memory)
        return other

    def draft(self) -> HoldoutSet:
        """Return a set that counts offers independently and shares the entries with this one."""
        other = copy.copy(self)
        other._offered = dict(self._offered)
        return other

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class indices."""
        return self._memory.labels.astype(np.int64)

    @property
    def seqs(self) -> np.ndarray:
        """(n,) int64 numbers in the label log."""
        return seqs_of(self._memory.records())

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return latents (n, *latent shape) and taps (n, T), both float32."""
        records = self._memory.records()
        at = self.codec.record_bytes
        taps = np.ascontiguousarray(records[:, at : at + 2 * self.taps_width]).view(np.float16)
        return self.codec.decode(records[:, :at]), taps.astype(np.float32)

    def to_metadata(self) -> dict[str, Any]:
        """Return what a state holds beside the entries. It fits JSON."""
        _, metadata = self._memory.to_arrays()
        return {**metadata, "offered": {str(k): v for k, v in self._offered.items()}}

    def restore_offers(self, metadata: Mapping[str, Any]) -> None:
        """Continue counting from what `to_metadata` returned."""
        self._offered = {int(k): int(v) for k, v in metadata["offered"].items()}
