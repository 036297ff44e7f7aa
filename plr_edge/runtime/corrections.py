"""Corrections of a state that no robot uses: undo labels, forget a class, review quarantined ones.

The labels change first, durably; then the state is learned again without them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig
from plr_edge.errors import ConfigError
from plr_edge.runtime.class_corrections import whole_classes, without_classes
from plr_edge.runtime.identity import config_of
from plr_edge.runtime.undo import mark_undone
from plr_edge.store import QUARANTINED, UNDONE, Store, TeachRequest, opened_for_reading
from plr_edge.stream.names import same_name

ALL: Literal["all"] = "all"


@dataclass(frozen=True)
class Correction:
    """What a state is after a correction.

    Attributes:
        n_changed: labels that were undone or deleted.
        n_taught: labels that are learned.
        n_classes: classes that are left.
    """

    n_changed: int
    n_taught: int
    n_classes: int


@dataclass(frozen=True)
class Review:
    """What became of quarantined labels.

    Attributes:
        n_confirmed: labels that are learned when the state is next used to adapt.
        n_evicted: labels that cannot be confirmed, as their latents were evicted.
        n_dropped: labels that were undone.
    """

    n_confirmed: int = 0
    n_evicted: int = 0
    n_dropped: int = 0


def undo(bundle: Bundle, path: Path, n_threads: int = 1, **filters: Any) -> Correction:
    """Undo labels, and learn again from the last generation before them.

    Args:
        bundle: from `open_bundle`.
        path: directory of the state.
        n_threads: threads of the engines.
        filters: filters of `store.select`.

    Raises:
        ConfigError: no label matches.
        StateError: there is no state, or it cannot be changed.
    """
    with opened_for_reading(path) as store:
        keeps_statistics = not config_of(store).keeps_samples
        if keeps_statistics:
            names, seqs = whole_classes(store, **filters)
        else:
            names, seqs = [], mark_undone(store, "undone by hand", **filters)
        if not seqs:
            raise ConfigError(
                f"no label in {path} matches these filters; `plr-edge log {path}` lists them"
            )
    if keeps_statistics:

        def mark(store: Store, number: int | None) -> int:
            return len(store.mark(seqs, UNDONE, "undone by hand", without=number))

        engines = EngineConfig(n_threads=n_threads)
        n_changed, *left = without_classes(bundle, path, engines, names, mark)
        return Correction(n_changed or 0, *left)
    return _learn_again(bundle, path, len(seqs), n_threads)


def forget(bundle: Bundle, path: Path, name: str, n_threads: int = 1) -> Correction:
    """Delete every trace of a class, and learn again without it; see `Store.forget`.

    Args:
        bundle: from `open_bundle`.
        path: directory of the state.
        name: the class.
        n_threads: threads of the engines.

    Raises:
        ConfigError: there is no such class.
        StateError: there is no state, or it cannot be changed.
    """
    with opened_for_reading(path) as store:
        names = sorted({label.name for label in store.labels})
        name, unknown = same_name(name, names) or name, f"no class {name!r} in {path}"
        keeps_statistics = not config_of(store).keeps_samples
        n_deleted = None if keeps_statistics else store.forget(name)
    if keeps_statistics and name in names:
        engines = EngineConfig(n_threads=n_threads)

        def delete(store: Store, number: int | None) -> int | None:
            return store.forget(name, without=number)

        n_deleted, *left = without_classes(bundle, path, engines, [name], delete)
        return Correction(n_deleted or 0, *left)
    if n_deleted is None:
        raise ConfigError(f"{unknown}; it has {', '.join(names)[:200]}")
    return _learn_again(bundle, path, n_deleted, n_threads)


def review(
    store: Store,
    *,
    confirm: Collection[int] | Literal["all"] = (),
    drop: Collection[int] | Literal["all"] = (),
    request: TeachRequest | None = None,
) -> Review:
    """Confirm or drop quarantined labels.

    Args:
        store: an open store.
        confirm: labels to learn after all.
        drop: labels to undo; those that are confirmed are not.
        request: the request that asks for it, to be answered without a change next time.

    Raises:
        ConfigError: a label is not quarantined.
    """
    held = [label.seq for label in store.labels.read(status=QUARANTINED)]
    for seq in [*(() if confirm == ALL else confirm), *(() if drop == ALL else drop)]:
        if seq not in held:
            there = ", ".join(map(str, held)) or "none"
            raise ConfigError(f"label {seq} is not quarantined; there are {there}")
    right = held if confirm == ALL else list(confirm)
    wrong = [seq for seq in (held if drop == ALL else drop) if seq not in right]
    taught, undone = store.review(right, wrong, request)
    return Review(len(taught), len(right) - len(taught), len(undone))


def _learn_again(bundle: Bundle, path: Path, n_changed: int, n_threads: int) -> Correction:
    engines = EngineConfig(n_threads=n_threads)
    from plr_edge.runtime.session import Session  # needs torch

    with Session.resume(bundle, path, engines) as session:
        session.finish()
        return Correction(n_changed, session.learned.n_taught, len(session.learned.classes))
