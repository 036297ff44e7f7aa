"""Values as rows of the database hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plr_edge.store.database import Row
from plr_edge.store.labels import Label


def meta(facts: Mapping[str, Any]) -> list[Row]:
    """Return rows of the table `meta`."""
    return [(key, json.dumps(value)) for key, value in facts.items()]


def packed(facts: Mapping[str, Any]) -> np.ndarray:
    """Return facts as an array of bytes."""
    return np.frombuffer(json.dumps(facts).encode(), np.uint8)


def blobs(label: Label) -> tuple[bytes, bytes]:
    """Return latent and taps as they are stored."""
    assert label.record is not None and label.taps is not None
    return label.record.tobytes(), label.taps.astype(np.float16).tobytes()


def ranges(seqs: Sequence[int]) -> str:
    """Write numbers as `3-7, 12`."""
    parts: list[list[int]] = []
    for seq in sorted(seqs):
        if parts and seq == parts[-1][1] + 1:
            parts[-1][1] = seq
        else:
            parts.append([seq, seq])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in parts)
