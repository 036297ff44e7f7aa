"""Label: one thing that was taught, the unit of what is acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plr_edge.store.rows import Row

LEARNED, QUARANTINED, UNDONE = "learned", "quarantined", "undone"
TRAIN, CANARY = "train", "canary"
_MAX_SOURCE_CHARACTERS = 1_000


@dataclass(frozen=True, kw_only=True)
class Label:
    """A frame's label, with what is needed to learn it again.

    Attributes:
        name: the class.
        predicted: what was answered before it was learned.
        source: of the frame.
        time_ns: wall clock; nothing is ordered by it.
        status: `learned`, `quarantined` (not learned until confirmed) or `undone`.
        use: `train`, or `canary`: held out, to judge generations.
        record: (n,) uint8 latent as the codec packs it; None once it was let go.
        taps: (T,) float16; None likewise.
        seq: place in the order of teaching, from 1; 0 before it is stored.
    """

    name: str
    predicted: str
    source: str
    time_ns: int
    status: str = LEARNED
    use: str = TRAIN
    record: np.ndarray | None = None
    taps: np.ndarray | None = None
    seq: int = 0

    def to_row(self, seq: int) -> Row:
        """Return the row of the table `labels`."""
        source = stored_source(self.source)
        return (seq, self.name, self.predicted, source, self.time_ns, self.status, self.use)

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
    """Return a source as it is kept: bytes of a name that are no UTF-8 escaped, and not endless."""
    return source.encode("utf-8", "backslashreplace").decode()[:_MAX_SOURCE_CHARACTERS]
