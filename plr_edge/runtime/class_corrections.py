"""Corrections of a state that keeps statistics only: whole classes are taken out of them.

Single labels cannot be taken out of a sum. What stays of a class is its part in the covariance that
all classes share, which names none of them. The state without it is written first. Only then are
the labels marked or deleted, so that a crash in between leaves a state that can be corrected again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig
from plr_edge.errors import ConfigError
from plr_edge.store import LEARNED, QUARANTINED, Store, select


def whole_classes(store: Store, **filters: Any) -> tuple[list[str], list[int]]:
    """Return the classes that filters choose, and the numbers of their labels.

    Args:
        store: keeps statistics only.
        filters: filters of `store.select`.

    Raises:
        ConfigError: they choose a part of a class.
    """
    there = [x for x in store.labels if x.status in (LEARNED, QUARANTINED)]
    chosen = set(select(there, **filters))
    learned = [x for x in there if x.status == LEARNED]
    names = sorted({x.name for x in learned if x.seq in chosen})
    partly = sorted({x.name for x in learned if x.name in names and x.seq not in chosen})
    if partly:
        raise ConfigError(
            f"{store.path} keeps statistics only, from which no single label can be taken out; "
            f"these filters choose a part of {', '.join(partly)[:200]}; undo a whole class with "
            "--class, or go back with `plr-edge rollback`"
        )
    return names, sorted(chosen)


def without_classes(
    bundle: Bundle,
    path: Path,
    engines: EngineConfig,
    names: Collection[str],
    change_labels: Callable[[Store, int | None], int | None],
) -> tuple[int | None, int, int]:
    """Write a state without some classes, then change their labels.

    Args:
        bundle: from `open_bundle`.
        path: directory of the state.
        engines: what the networks run on.
        names: the classes; those that are not learned are passed over.
        change_labels: takes the store and the number of the generation without the classes.

    Returns:
        What `change_labels` returned, the labels that are learned, and the classes that are left.
    """
    from plr_edge.runtime.session import Session  # needs torch

    with Session.resume(bundle, path, engines) as session:
        assert session.store is not None
        session.take_back(names)
        kept = list(session.store.generations)
        changed = change_labels(session.store, kept[-1].number if kept else None)
        return changed, session.learned.n_taught, len(session.learned.classes)
