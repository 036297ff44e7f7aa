"""Label: one taught frame, the unit of acknowledgement."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from plr_edge.store.rows import Row

LEARNED, QUARANTINED, UNDONE = "learned", "quarantined", "undone"
TRAIN, CANARY = "train", "canary"  # a canary is held out; the file format says so
FORGOTTEN = "unknown"  # stands for a forgotten class
_MAX_SOURCE_CHARACTERS = 1_000


@dataclass(frozen=True, kw_only=True)
class Label:
    """A frame's label, with what is needed to learn it again.

    Attributes:
        name: class name.
        predicted: the answer before the label was learned.
        source: where the frame came from.
        time_ns: wall clock; nothing is ordered by it.
        status: `learned`, `quarantined` (not learned until confirmed) or `undone`.
        use: `train`, or `canary` if the label is held out to evaluate generations.
        record: (n,) uint8, the latent as the codec packs it; None once evicted.
        taps: (T,) float16; None once evicted.
        content: what identifies the frame, see `plr_edge.stream.content`; empty if it is not known.
        seq: place in the order of teaching, from 1; 0 before the label is stored.
    """

    name: str
    predicted: str
    source: str
    time_ns: int
    status: str = LEARNED
    use: str = TRAIN
    record: np.ndarray | None = None
    taps: np.ndarray | None = None
    content: bytes = b""
    seq: int = 0

    def to_row(self) -> Row:
        """Return the row of the table `labels`."""
        source = stored_source(self.source)
        return (self.seq, self.name, self.predicted, source, self.time_ns, self.status, self.use)

    @property
    def has_latent(self) -> bool:
        """Whether the latent is at hand."""
        return self.record is not None and self.taps is not None

    @property
    def blobs(self) -> tuple[bytes, bytes]:
        """Latent and taps as they are stored."""
        assert self.record is not None and self.taps is not None
        return self.record.tobytes(), self.taps.astype(np.float16).tobytes()

    @classmethod
    def from_row(cls, row: Row) -> Label:
        """Rebuild a label, without its latent."""
        names = ("seq", "name", "predicted", "source", "time_ns", "status", "use")
        return cls(**dict(zip(names, row, strict=True)))


def stored_source(source: str) -> str:
    """Return a source as it is stored: bytes that are not UTF-8 escaped, and cut to a length."""
    return source.encode("utf-8", "backslashreplace").decode()[:_MAX_SOURCE_CHARACTERS]


def without_folder(name: str, text: str) -> str:
    """Return a text in which folders of this name are called `FORGOTTEN`."""
    pattern = rf"(?<![^/\\\s]){re.escape(name)}(?=[/\\#])"
    return re.sub(pattern, FORGOTTEN, text)
