"""Canary: held-out latents of every class, and what two generations answer to them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory

_EVERY = 20  # of the labels of a class, one is held out
_AT = 10
SEQ_BYTES = 8


class HoldoutSet:
    """A class-balanced set of records: packed latent, float16 taps, place in the label log."""

    def __init__(self, codec: LatentCodec, taps_width: int, n: int, seed: int) -> None:
        """Make an empty set of at most `n`."""
        self.codec, self.taps_width = codec, taps_width
        self.record_bytes = codec.record_bytes + 2 * taps_width + SEQ_BYTES
        self.memory = LatentMemory(self.record_bytes, n * (self.record_bytes + 4), seed)
        self._offered: dict[int, int] = {}

    def draft(self) -> HoldoutSet:
        """Return one that counts by itself; what is held out is the same."""
        other = copy.copy(self)
        other._offered = dict(self._offered)
        return other

    def wants(self, label: int) -> bool:
        """Say whether the next label of a class is to be held out; counts it."""
        self._offered[label] = self._offered.get(label, 0) + 1
        return self._offered[label] % _EVERY == _AT

    def add(self, record: np.ndarray, taps: np.ndarray, seq: int, label: int) -> None:
        """Hold one label out; it may take the place of an older one."""
        parts = [
            record,
            taps.astype(np.float16).view(np.uint8),
            np.array([seq], np.int64).view(np.uint8),
        ]
        self.memory.add(np.concatenate(parts), label)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class indices."""
        return self.memory.labels.astype(np.int64)

    @property
    def seqs(self) -> np.ndarray:
        """(n,) int64 places in the label log."""
        return seqs_of(self.memory.records())

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return latents (n, *latent shape) and taps (n, T), float32."""
        records = self.memory.records()
        at = self.codec.record_bytes
        taps = np.ascontiguousarray(records[:, at : at + 2 * self.taps_width]).view(np.float16)
        return self.codec.decode(records[:, :at]), taps.astype(np.float32)

    def to_facts(self) -> dict[str, Any]:
        """Return what `restore` needs beside the records, as JSON."""
        return {"offered": {str(k): v for k, v in self._offered.items()}}

    def restore(self, facts: dict[str, Any]) -> None:
        """Go on counting."""
        self._offered = {int(k): int(v) for k, v in facts["offered"].items()}


def with_seq(records: np.ndarray, seqs: np.ndarray) -> np.ndarray:
    """Append to records (n, b) uint8 their places in the label log (n,)."""
    tail = np.ascontiguousarray(seqs, np.int64).view(np.uint8).reshape(len(records), SEQ_BYTES)
    return np.concatenate([records, tail], axis=1)


def seqs_of(records: np.ndarray) -> np.ndarray:
    """Return the places (n,) int64 that records (n, b) end with."""
    tails = np.ascontiguousarray(records[:, -SEQ_BYTES:])
    return tails.view(np.int64).reshape(-1)
