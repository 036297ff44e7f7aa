"""What the tests of the store share."""

import numpy as np

from plr_edge.store import LEARNED, Label

GROUPS = ("adaptive", "classifier", "learning")
IDENTITY = {"bundle": "b", "frozen_sha256": "f", "codec": {}}


def label(i=0, name="a", status=LEARNED, n_bytes=64, predicted="b", source=None):
    record = np.full(n_bytes, i % 256, np.uint8)
    taps = np.full(4, i % 100, np.float16)
    return Label(
        name=name, predicted=predicted, source=source or f"f{i}", time_ns=i, status=status,
        record=record, taps=taps,
    )  # fmt: skip


def commit(store, value=1, **facts):
    """Write a generation that a repair recognises as one."""
    arrays = {group: {"x": np.full(3, value, np.float32)} for group in GROUPS}
    return store.commit_generation({**IDENTITY, **facts}, arrays)
