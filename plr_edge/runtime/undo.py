"""Undo: labels are selected and marked as undone, as if they had never been taught.

What was learned is then rebuilt from the labels that are left. `OnlineModel.rebuild_after` does it
in a running robot, while frames are answered. Without a robot, `corrections.undo` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Store, TeachRequest, select


def mark_undone(
    store: Store,
    reason: str,
    *,
    statuses: Sequence[str] = (LEARNED, QUARANTINED),
    request: TeachRequest | None = None,
    **filters: Any,
) -> list[int]:
    """Mark labels as undone, and drop the generations that learned from them.

    Args:
        store: holds the labels.
        reason: why, for the log.
        statuses: labels of any other status are left alone.
        request: the request that asks for it, to be answered without a change next time.
        filters: filters of `store.select`, e.g. `last` or `name`.

    Returns:
        The numbers of the labels. None if no label passes the filters.

    Raises:
        StateError: the disk refuses. Nothing was undone.
    """
    labels = store.clock.corrected(store.labels)
    chosen = select((x for x in labels if x.status in statuses), **filters)
    return store.mark(chosen, UNDONE, reason, request) if chosen else []
