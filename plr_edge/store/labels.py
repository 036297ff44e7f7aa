"""Label: one thing that was taught, the unit of what is acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plr_edge.store.database import Row

LEARNED, QUARANTINED, UNDONE = "learned", "quarantined", "undone"
TRAIN, CANARY = "train", "canary"


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
        return (seq, self.name, self.predicted, self.source, self.time_ns, self.status, self.use)

    @classmethod
    def from_row(cls, row: Row) -> Label:
        """Rebuild a label, without its latent."""
        names = ("seq", "name", "predicted", "source", "time_ns", "status", "use")
        return cls(**dict(zip(names, row, strict=True)))
