"""What is learned, on disk: no power cut, full disk or flipped bit can make it lie.

store.db                                   labels, latents, the table of generations, events
generations/000012.GROUP.safetensors       immutable; synced with their folder before a row of the
                                           database names them; the two newest are kept
damaged-NANOSECONDS.db                     what the latest `repair` has set aside
lock                                       held by the one process that may write; names it
"""

from plr_edge.store.database import FILE
from plr_edge.store.generations import State
from plr_edge.store.labels import (
    CANARY,
    LEARNED,
    QUARANTINED,
    TRAIN,
    UNDONE,
    Label,
    stored_source,
)
from plr_edge.store.publishing import MAX_LABELS
from plr_edge.store.reading import open_store, opened_for_reading, read_state
from plr_edge.store.repairing import repair
from plr_edge.store.store import Store

__all__ = [
    "CANARY",
    "FILE",
    "LEARNED",
    "MAX_LABELS",
    "QUARANTINED",
    "TRAIN",
    "UNDONE",
    "Label",
    "State",
    "Store",
    "open_store",
    "opened_for_reading",
    "read_state",
    "repair",
    "stored_source",
]
