"""Scenarios: which frames are taught, in which order, with which labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.data.encoded import Encoded, Split
from benchmarks.data.encoders import FROZEN_MACS, MOBILENET
from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import ConfigError

_LONG_TAIL = 50.0  # frames of the most frequent class for each one of the rarest
_VISITS = 2  # of each class in the order `blocks`
_LOOKS = 10  # parts into which an order without experiences of its own is divided


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A data set, its encoder, an order, a number of frames per class, and a share of wrong labels.

    Attributes:
        dataset: name that `find_dataset` knows.
        encoder: `mobilenet_v2` (a bundle), `bir_c3` or `pixels`.
        order: `given`, as the data set comes; `iid`; `classes`, in experiences of new classes;
            `blocks`, every class visited twice with its frames in their own order; `long tail`,
            experiences of new classes, the first one `_LONG_TAIL` times as frequent as the last.
        n_experiences: experiences of the orders `classes` and `long tail`; 0 for one per class.
        per_class: frames taught of each class, None for all.
        noise: share of the taught frames that get the label of another class.
        profile: effort of the methods on vectors, `quick` or `paper`.
    """

    dataset: str
    encoder: str = MOBILENET
    order: str = "classes"
    n_experiences: int = 10
    per_class: int | None = None
    noise: float = 0.0
    profile: str = "quick"

    @property
    def name(self) -> str:
        """Name in tables and rows."""
        order = {"classes": f"{self.n_experiences or 'class by class'}"}.get(self.order, self.order)
        frames = "all" if self.per_class is None else str(self.per_class)
        noise = f" noise {self.noise:.0%}" if self.noise else ""
        encoder = "" if self.encoder == MOBILENET else f" {self.encoder}"
        profile = "" if self.profile == "quick" else f", {self.profile}"
        return f"{Path(self.dataset).stem}{encoder} {order} x {frames}{noise}{profile}"


@dataclass(frozen=True)
class Benchmark:
    """A scenario in the order that one seed draws.

    Attributes:
        name: name of the scenario.
        train: taught frames in order, with the labels as they are taught.
        test: held-out frames; their labels are right.
        classes: names of the classes.
        starts: first frame of each experience.
        frozen_s: seconds of the frozen part for one frame.
        right_labels: right labels of the taught frames.
        bundles: the bundle and the same with a static feature; None if latents are vectors.
        profile: effort of the methods on vectors.
        frozen_macs: multiply-adds of the frozen part for one frame, where latents are vectors.
    """

    name: str
    train: Split
    test: Split
    classes: list[str]
    starts: tuple[int, ...]
    frozen_s: float
    right_labels: np.ndarray
    bundles: tuple[Bundle, Bundle] | None = None
    profile: str = "quick"
    frozen_macs: int = 0

    @property
    def bundle(self) -> Bundle:
        """Return the bundle as `plr-edge export` makes it."""
        assert self.bundles, "latents of this scenario are vectors"
        return self.bundles[0]

    @property
    def static_bundle(self) -> Bundle:
        """Return the bundle with a static feature."""
        assert self.bundles, "latents of this scenario are vectors"
        return self.bundles[1]

    @property
    def experiences(self) -> list[tuple[int, int]]:
        """Return the first frame of each experience and the one behind its last."""
        return list(zip(self.starts, [*self.starts[1:], len(self.train.labels)], strict=True))


def arrange(
    scenario: Scenario, encoded: Encoded, seed: int, bundles: tuple[Bundle, Bundle] | None = None
) -> Benchmark:
    """Choose, order and label the taught frames by the seed.

    Raises:
        ConfigError: there is no such order.
    """
    train, classes = encoded.train, encoded.classes
    check_order(scenario.order)
    rng = np.random.default_rng([seed, 7])
    rank = rng.permutation(len(classes))
    chosen = _limited(train.labels, scenario.per_class, rng)
    order = ORDERS[scenario.order]
    experiences = order(train.labels, chosen, rank, scenario.n_experiences, rng)
    experiences = [rows for rows in experiences if len(rows)]
    starts = np.cumsum([0, *(len(rows) for rows in experiences[:-1])])
    ordered = train.take(np.concatenate(experiences))
    wrong = rng.random(len(ordered.labels)) < scenario.noise
    shift = rng.integers(1, len(classes), len(ordered.labels))
    labels = np.where(wrong, (ordered.labels + shift) % len(classes), ordered.labels)
    return Benchmark(
        scenario.name, replace(ordered, labels=labels), encoded.test, classes,
        tuple(int(start) for start in starts), encoded.frozen_s, ordered.labels, bundles,
        scenario.profile, FROZEN_MACS.get(scenario.encoder, 0),
    )  # fmt: skip


def without_classes(benchmark: Benchmark, held_back: np.ndarray) -> Benchmark:
    """Return a benchmark whose stream has no frame of some classes (k,), and none of their labels.

    The held-out frames stay.
    """
    train, right = benchmark.train, benchmark.right_labels
    kept = ~(np.isin(right, held_back) | np.isin(train.labels, held_back))
    before = np.concatenate([[0], np.cumsum(kept)])
    starts = [(int(before[a]), int(before[b])) for a, b in benchmark.experiences]
    rows = np.flatnonzero(kept)
    return replace(
        benchmark,
        train=train.take(rows),
        right_labels=right[rows],
        starts=tuple(start for start, end in starts if end > start),
    )


def check_order(order: str) -> None:
    """Refuse an order that does not exist."""
    if order not in ORDERS:
        raise ConfigError(f"no order {order!r}; there are {', '.join(ORDERS)}")


def _limited(labels: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of at most `limit` frames per class, in their own order."""
    if limit is None:
        return np.arange(len(labels))
    rows = [rng.permutation(np.flatnonzero(labels == c))[:limit] for c in np.unique(labels)]
    return np.sort(np.concatenate(rows))


# labels of all rows, chosen rows, rank of each class, experiences, rng -> rows by experience
_Rng = np.random.Generator
Order = Callable[[np.ndarray, np.ndarray, np.ndarray, int, _Rng], list[np.ndarray]]


def _given(
    labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int, rng: _Rng
) -> list[np.ndarray]:
    return list(np.array_split(rows, _LOOKS))


def _iid(
    labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int, rng: _Rng
) -> list[np.ndarray]:
    return list(np.array_split(rng.permutation(rows), _LOOKS))


def _by_classes(
    labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int, rng: _Rng
) -> list[np.ndarray]:
    groups = np.array_split(np.argsort(rank), n or len(rank))
    return [rng.permutation(rows[np.isin(labels[rows], group)]) for group in groups]


def _blocks(
    labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int, rng: _Rng
) -> list[np.ndarray]:
    # frames of a class stay in their own order
    pieces = [np.array_split(rows[labels[rows] == c], _VISITS) for c in np.argsort(rank)]
    visits = []
    for visit in range(_VISITS):
        visits += [pieces[i][visit] for i in rng.permutation(len(pieces))]
    groups = np.array_split(np.arange(len(visits)), _LOOKS)
    return [np.concatenate([visits[i] for i in group]) for group in groups if len(group)]


def _long_tail(
    labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int, rng: _Rng
) -> list[np.ndarray]:
    kept = []
    for c, place in enumerate(rng.permutation(len(rank))):
        own = rows[labels[rows] == c]
        share = _LONG_TAIL ** (-place / max(len(rank) - 1, 1))
        kept.append(own[: max(1, round(share * len(own)))])
    return _by_classes(labels, np.sort(np.concatenate(kept)), rank, n, rng)


ORDERS: dict[str, Order] = {
    "given": _given, "iid": _iid, "classes": _by_classes, "blocks": _blocks,
    "long tail": _long_tail,
}  # fmt: skip
