"""What was learned, on disk, safe from power cuts, full disks and flipped bits.

store.db                                   labels, latents, what identifies their frames, the
                                           table of generations, events, answers to requests
generations/000012.GROUP.safetensors       immutable; synced with their folder before a row of the
                                           database names them; the two newest are kept
damaged-NANOSECONDS.db                     the database that `repair` or `restore` replaced
restored/                                  a store that `restore` offered, until it is taken
lock                                       held by the one process that may write; names it
"""

from plr_edge.store.backup import BackupReport, back_up, restore
from plr_edge.store.database import FILE
from plr_edge.store.generation_files import State
from plr_edge.store.label_log import MAX_LABELS
from plr_edge.store.labels import (
    CANARY,
    LEARNED,
    QUARANTINED,
    TRAIN,
    UNDONE,
    Label,
    stored_source,
)
from plr_edge.store.reading import copied_state, open_store, opened_for_reading, read_state
from plr_edge.store.repairing import repair
from plr_edge.store.requests import MAX_REQUESTS, TeachRequest
from plr_edge.store.selection import select
from plr_edge.store.store import Store

__all__ = [
    "CANARY",
    "FILE",
    "LEARNED",
    "MAX_LABELS",
    "MAX_REQUESTS",
    "QUARANTINED",
    "TRAIN",
    "UNDONE",
    "BackupReport",
    "Label",
    "State",
    "Store",
    "TeachRequest",
    "back_up",
    "copied_state",
    "open_store",
    "opened_for_reading",
    "read_state",
    "repair",
    "restore",
    "select",
    "stored_source",
]
