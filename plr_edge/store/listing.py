"""Labels and events of a store as one list, for people and machines."""

from __future__ import annotations

from typing import Any

from plr_edge.store.labels import QUARANTINED
from plr_edge.store.store import Store


def entries(
    store: Store, last: int, *, quarantined: bool = False, only_events: bool = False
) -> list[dict[str, Any]]:
    """Return the newest labels and events, in the order of their time.

    Args:
        store: an open store. It may be in use.
        last: number of entries.
        quarantined: only labels in quarantine.
        only_events: only events.
    """
    status = QUARANTINED if quarantined else None
    whole = quarantined or store.facts.get("n_deleted", 0)
    after = 0 if whole else max(0, store.last_seq - last)
    read = [] if only_events else store.labels.read(after, status)
    found: list[dict[str, Any]] = [
        {
            "time_ns": label.time_ns,
            "kind": label.status,
            "label": label.seq,
            "class": label.name,
            "predicted": label.predicted,
            "source": label.source,
        }
        for label in store.clock.corrected(read)
    ]
    if not quarantined:
        events = store.clock.corrected_events()
        found += [{"time_ns": at, "kind": kind, "text": text} for at, kind, text in events]
    return sorted(found, key=lambda entry: entry["time_ns"])[-last:]
