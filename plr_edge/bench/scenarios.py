"""Scenarios of the comparison: which frames are taught, in which order, with which labels.

Frames pass through the frozen part once; what it returns is kept as plain arrays that every
process maps. Knows streams and bundles, no method.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from plr_edge.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.errors import ConfigError, StreamError
from plr_edge.runtime.perception import Perception, Seen
from plr_edge.stream import Frame, open_stream

_CHUNK = 16
_PARTS = ("latents", "taps", "features")
_LONG_TAIL = 50.0  # frames of the most frequent class for each one of the rarest
_BLOCKS = 2  # visits of a class in the ordering `blocks`
Say = Callable[[str], None]


class Dataset(Protocol):
    """Frames with labels; a new data set is one class like `Pack`."""

    @property
    def name(self) -> str:
        """For people and for files."""
        ...

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield the frames of `part`, `train` or `test`, classes in a fixed order."""
        ...


@dataclass(frozen=True)
class Pack:
    """A folder that `open_stream` reads, with two splits.

    Attributes:
        name: of the data set.
        folder: below the data folder.
        train: split that is taught.
        test: split that is held out.
        limit_per_class: of the taught frames.
    """

    name: str
    folder: str
    train: str = "train"
    test: str = "test"
    limit_per_class: int | None = None

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield frames; see `Dataset`."""
        path = data / self.folder
        if not path.exists():
            raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
        split, limit = (self.train, self.limit_per_class) if part == "train" else (self.test, None)
        return open_stream(path, split=split, limit_per_class=limit)


DATASETS: dict[str, Dataset] = {
    pack.name: pack
    for pack in (
        Pack("cifar100", "cifar100"),
        Pack("grocery", "grocery"),
        Pack("fruits", "fruits-turntable"),
        Pack("fruits-axes", "fruits-turntable", train="axis0", test="axis1"),
        Pack("eth80", "eth80"),
        Pack("mnist", "mnist", limit_per_class=100),
    )
}


class Images:
    """Images of a split, decoded when they are asked for, then kept."""

    def __init__(self, make: Callable[[], Iterable[Frame]]) -> None:
        self._make = make
        self._held: dict[int, np.ndarray] = {}

    def get(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the images, (H, W, 3) uint8, of rows of the split."""
        missing = set(rows.tolist()) - self._held.keys()
        if missing:
            for i, frame in enumerate(self._make()):
                if i in missing:
                    self._held[i] = frame.image
        return [self._held[int(row)] for row in rows]


@dataclass(frozen=True)
class Part:
    """What the frozen part returned for frames of a split.

    Attributes:
        seen: latents, features of the network as exported, and taps (n, T + D) of a bundle with a
            static feature.
        labels: (n,) class indices, in the order of first appearance in the data set.
        rows: (n,) places in the split.
        images: of the split.
    """

    seen: Seen
    labels: np.ndarray
    rows: np.ndarray
    images: Images

    def take(self, rows: np.ndarray | slice) -> Part:
        """Return frames in another order, in memory."""
        return replace(
            self, seen=self.seen.take(rows), labels=self.labels[rows], rows=self.rows[rows]
        )


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A data set, an order, a number of frames a class, and a share of wrong labels.

    Attributes:
        dataset: a name in `DATASETS`.
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
        return f"{self.dataset} {order} x {frames}{noise}"


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
    """

    name: str
    bundle: Bundle
    narrow: Bundle
    train: Part
    test: Part
    classes: list[str]
    starts: tuple[int, ...]
    frozen_s: float


def load_parts(
    dataset: Dataset, bundle: Bundle, data: Path, cache: Path, say: Say
) -> tuple[Part, Part, list[str], float]:
    """Run both splits through a bundle's engines once, or map what an earlier run kept.

    Returns:
        The taught and the held-out part, names of the classes, seconds a frame.

    Raises:
        StreamError: the data set is not there.
    """
    folder = cache / f"{dataset.name}-{bundle.frozen_sha256[:12]}"
    if not (folder / "facts.json").is_file():
        say(f"running {dataset.name} through {bundle.name}")
        unfinished = folder.with_name(folder.name + ".partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _keep(dataset, bundle, data, unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    facts = json.loads((folder / "facts.json").read_text())
    parts = []
    for split in ("train", "test"):
        arrays = [np.load(folder / f"{split}_{name}.npy", mmap_mode="r") for name in _PARTS]
        labels = np.load(folder / f"{split}_labels.npy")
        images = Images(partial(dataset.frames, data, split))
        parts.append(Part(Seen(*arrays), labels, np.arange(len(labels)), images))
    return parts[0], parts[1], facts["classes"], facts["frozen_s"]


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
    if scenario.order not in ORDERS:
        raise ConfigError(f"no order {scenario.order!r}; there are {', '.join(ORDERS)}")
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
        tuple(int(start) for start in starts), frozen_s,
    )  # fmt: skip


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


def _keep(dataset: Dataset, bundle: Bundle, data: Path, folder: Path) -> None:
    perception = Perception(bundle, CombinedClassifier(bundle.taps_width, bundle.feature_width), [])
    classes: dict[str, int] = {}
    n_frames, start = 0, time.perf_counter()
    for part in ("train", "test"):
        seen: list[Seen] = []
        labels: list[int] = []
        chunk: list[Frame] = []
        for frame in dataset.frames(data, part):
            labels.append(classes.setdefault(str(frame.label), len(classes)))
            chunk.append(frame)
            if len(chunk) == _CHUNK:
                seen.append(perception.see(chunk))
                chunk = []
        if chunk:
            seen.append(perception.see(chunk))
        for name in _PARTS:
            array = np.concatenate([getattr(one, name) for one in seen])
            np.save(folder / f"{part}_{name}.npy", array)
        np.save(folder / f"{part}_labels.npy", np.array(labels))
        n_frames += len(labels)
    facts = {"classes": list(classes), "frozen_s": (time.perf_counter() - start) / n_frames}
    (folder / "facts.json").write_text(json.dumps(facts))
