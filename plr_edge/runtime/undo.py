"""Undo: labels are selected and marked as undone, as if they had never been taught.

What was learned is then rebuilt from the labels that are left. `OnlineModel.rebuild_after` does it
in a running robot, while frames are answered. Without a robot, `Session.resume` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Label, Store, stored_source


def mark_undone(
    store: Store,
    reason: str,
    *,
    statuses: Sequence[str] = (LEARNED, QUARANTINED),
    last: int | None = None,
    name: str | None = None,
    source: str | None = None,
    seqs: Sequence[int] = (),
    since_s: float | None = None,
    until_s: float | None = None,
) -> list[int]:
    """Mark labels as undone, and drop the generations that learned from them.

    The conditions add up. None, or an empty sequence, stands for any label.

    Args:
        store: holds the labels.
        reason: why, for the log.
        statuses: labels of any other status are left alone.
        last: so many of the last labels that meet the other conditions.
        name: labels of this class.
        source: labels whose source starts with this.
        seqs: labels with these numbers in the label log.
        since_s: labels taught at this time or later, in seconds since the epoch.
        until_s: labels taught before this time.

    Returns:
        The numbers of the labels, none if no label meets the conditions.

    Raises:
        StateError: the disk refuses. Nothing was undone.
    """
    labels = (label for label in store.labels() if label.status in statuses)
    chosen = select(
        labels,
        last=last,
        name=name,
        source=source,
        seqs=seqs,
        since_s=since_s,
        until_s=until_s,
    )
    return store.mark(chosen, UNDONE, reason) if chosen else []


def select(
    labels: Iterable[Label],
    *,
    last: int | None = None,
    name: str | None = None,
    source: str | None = None,
    seqs: Sequence[int] = (),
    since_s: float | None = None,
    until_s: float | None = None,
) -> list[int]:
    """Return the numbers of the labels that meet conditions; see `mark_undone` for these."""
    chosen = [
        label.seq
        for label in labels
        if (name is None or label.name == name)
        and (source is None or label.source.startswith(stored_source(source)))
        and (not seqs or label.seq in seqs)
        and (since_s is None or label.time_ns / 1e9 >= since_s)
        and (until_s is None or label.time_ns / 1e9 < until_s)
    ]
    return chosen[-last:] if last else chosen
