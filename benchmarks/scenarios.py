"""Scenarios of the comparison: which frames are taught, in which order, with which labels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.datasets import DATASETS, Part, find_dataset
from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import ConfigError

_LONG_TAIL = 50.0  # frames of the most frequent class for each one of the rarest
_BLOCKS = 2  # visits of a class in the ordering `blocks`


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A data set, an order, a number of frames a class, and a share of wrong labels.

    Attributes:
        dataset: what `find_dataset` knows.
        order: `iid`; `classes`, in experiences of new classes; `blocks`, every class visited
            twice, its frames in their own order; `long tail`, classes in experiences, the first
            one `_LONG_TAIL` times as frequent as the last.
        n_experiences: of the order `classes` and `long tail`; 0 for one a class.
        per_class: frames taught of each class, None for all.
        noise: share of taught frames that carry the label of another class.
    """

    dataset: str
    order: str = "classes"
    n_experiences: int = 10
    per_class: int | None = None
    noise: float = 0.0

    @property
    def name(self) -> str:
        """For people and for files."""
        order = {"classes": f"{self.n_experiences or 'class by class'}"}.get(self.order, self.order)
        frames = "all" if self.per_class is None else str(self.per_class)
        noise = f" noise {self.noise:.0%}" if self.noise else ""
        return f"{Path(self.dataset).stem} {order} x {frames}{noise}"


QUICK = (
    Scenario(dataset="grocery", per_class=5),
    Scenario(dataset="fruits-axes", per_class=5),
    Scenario(dataset="eth80", n_experiences=0, per_class=20),
    Scenario(dataset="mnist", n_experiences=5, per_class=20),
)
FULL = (
    Scenario(dataset="cifar100", per_class=20),
    Scenario(dataset="grocery", per_class=20),
    Scenario(dataset="grocery"),
    Scenario(dataset="fruits", order="blocks"),
    Scenario(dataset="fruits-axes", order="blocks"),
    Scenario(dataset="eth80", n_experiences=0, per_class=20),
    Scenario(dataset="mnist", n_experiences=5, per_class=20),
    Scenario(dataset="cifar100"),
    Scenario(dataset="cifar100", per_class=1),
    Scenario(dataset="cifar100", per_class=5),
    Scenario(dataset="cifar100", n_experiences=20, per_class=20),
    Scenario(dataset="cifar100", n_experiences=0, per_class=20),
    Scenario(dataset="cifar100", order="iid", per_class=20),
    Scenario(dataset="cifar100", order="blocks", per_class=20),
    Scenario(dataset="cifar100", order="long tail", per_class=100),
    Scenario(dataset="cifar100", per_class=20, noise=0.1),
    Scenario(dataset="cifar100", per_class=20, noise=0.2),
    Scenario(dataset="grocery", per_class=1),
    Scenario(dataset="grocery", per_class=5),
)


def choose(
    quick: bool,
    datasets: Sequence[str] = (),
    orders: Sequence[str] = (),
    frames: Sequence[int | None] = (),
    experiences: int | None = None,
    noises: Sequence[float] = (),
) -> tuple[Scenario, ...]:
    """Return the scenarios of the page, or all combinations of what is given.

    Raises:
        ConfigError: there is no such data set or order.
    """
    for name in datasets:
        find_dataset(name)
    for order in orders:
        _check_order(order)
    listed = QUICK if quick else FULL
    others = any(name not in DATASETS for name in datasets)
    if not (orders or frames or noises or others or experiences is not None):
        return tuple(one for one in listed if not datasets or one.dataset in datasets)
    names = datasets or tuple(dict.fromkeys(one.dataset for one in listed))
    return tuple(
        Scenario(dataset=name, order=order, per_class=n, noise=noise,
                 n_experiences=10 if experiences is None else experiences)
        for name, order, n, noise in itertools.product(
            names, orders or ("classes",), frames or (20,), noises or (0.0,))
    )  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A scenario in one seed's order.

    Attributes:
        name: of the scenario.
        bundle: with a static feature.
        narrow: the same without.
        train: taught frames in order, labels as they are taught.
        test: held-out frames; labels are right.
        classes: names.
        starts: first frame of each experience.
        frozen_s: seconds of the frozen part for one frame.
        right_labels: of the taught frames, where none is wrong.
    """

    name: str
    bundle: Bundle
    narrow: Bundle
    train: Part
    test: Part
    classes: list[str]
    starts: tuple[int, ...]
    frozen_s: float
    right_labels: np.ndarray

    @property
    def experiences(self) -> list[tuple[int, int]]:
        """First frame of each experience, and that behind its last."""
        return list(zip(self.starts, [*self.starts[1:], len(self.train.labels)], strict=True))


def make_task(
    scenario: Scenario,
    bundles: tuple[Bundle, Bundle],
    parts: tuple[Part, Part, list[str], float],
    seed: int,
) -> Task:
    """Choose, order and label the taught frames by the seed.

    Raises:
        ConfigError: there is no such order.
    """
    train, test, classes, frozen_s = parts
    _check_order(scenario.order)
    rng = np.random.default_rng([seed, 7])
    rank = rng.permutation(len(classes))
    chosen = _limited(train.labels, scenario.per_class, rng)
    experiences = [rows for rows in ORDERS[scenario.order](
        train.labels, chosen, rank, scenario.n_experiences, rng) if len(rows)]  # fmt: skip
    starts = np.cumsum([0, *(len(rows) for rows in experiences[:-1])])
    ordered = train.take(np.concatenate(experiences))
    wrong = rng.random(len(ordered.labels)) < scenario.noise
    shift = rng.integers(1, len(classes), len(ordered.labels))
    labels = np.where(wrong, (ordered.labels + shift) % len(classes), ordered.labels)
    return Task(
        scenario.name, *bundles, replace(ordered, labels=labels), test, classes,
        tuple(int(start) for start in starts), frozen_s, ordered.labels,
    )  # fmt: skip


def _check_order(order: str) -> None:
    if order not in ORDERS:
        raise ConfigError(f"no order {order!r}; there are {', '.join(ORDERS)}")


def _limited(labels: np.ndarray, limit: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of at most `limit` frames a class, in their own order."""
    if limit is None:
        return np.arange(len(labels))
    rows = [rng.permutation(np.flatnonzero(labels == c))[:limit] for c in np.unique(labels)]
    return np.sort(np.concatenate(rows))


Order = Callable[
    [np.ndarray, np.ndarray, np.ndarray, int, np.random.Generator], list[np.ndarray]
]  # labels, rows, rank of each class, experiences, rng -> rows of each experience


def _iid(labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int,
         rng: np.random.Generator) -> list[np.ndarray]:  # fmt: skip
    return list(np.array_split(rng.permutation(rows), 10))


def _by_classes(labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int,
                rng: np.random.Generator) -> list[np.ndarray]:  # fmt: skip
    groups = np.array_split(np.argsort(rank), n or len(rank))
    return [rng.permutation(rows[np.isin(labels[rows], group)]) for group in groups]


def _blocks(labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int,
            rng: np.random.Generator) -> list[np.ndarray]:  # fmt: skip
    pieces = [
        np.array_split(rows[labels[rows] == c], _BLOCKS) for c in np.argsort(rank)
    ]  # frames of a class stay in their own order
    visits = []
    for visit in range(_BLOCKS):
        visits += [pieces[i][visit] for i in rng.permutation(len(pieces))]
    groups = np.array_split(np.arange(len(visits)), 10)
    return [np.concatenate([visits[i] for i in group]) for group in groups if len(group)]


def _long_tail(labels: np.ndarray, rows: np.ndarray, rank: np.ndarray, n: int,
               rng: np.random.Generator) -> list[np.ndarray]:  # fmt: skip
    kept = []
    for c, place in enumerate(rng.permutation(len(rank))):
        own = rows[labels[rows] == c]
        share = _LONG_TAIL ** (-place / max(len(rank) - 1, 1))
        kept.append(own[: max(1, round(share * len(own)))])
    return _by_classes(labels, np.sort(np.concatenate(kept)), rank, n, rng)


ORDERS: dict[str, Order] = {
    "iid": _iid, "classes": _by_classes, "blocks": _blocks, "long tail": _long_tail,
}  # fmt: skip
