"""Selecting labels to take back, by what is known of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from plr_edge.store.labels import Label, stored_source


def select(
    labels: Iterable[Label],
    *,
    last: int | None = None,
    name: str | None = None,
    source: str | None = None,
    seqs: Collection[int] = (),
    since_s: float | None = None,
    until_s: float | None = None,
    after: int | None = None,
) -> list[int]:
    """Return the places of the labels that pass every filter that is given.

    Args:
        labels: in the order of teaching.
        last: number of newest labels to keep of those that pass the other filters.
        name: class of the labels.
        source: first characters of the source.
        seqs: places of the labels.
        since_s: earliest Unix time of teaching.
        until_s: Unix time before which they were taught.
        after: place after which they were taught, which no clock can bend.
    """
    prefix = None if source is None else stored_source(source)
    found = [
        label.seq
        for label in labels
        if (name is None or label.name == name)
        and (prefix is None or label.source.startswith(prefix))
        and (not seqs or label.seq in seqs)
        and (since_s is None or label.time_ns >= since_s * 1e9)
        and (until_s is None or label.time_ns < until_s * 1e9)
        and (after is None or label.seq > after)
    ]
    return found if last is None else found[-last:]
