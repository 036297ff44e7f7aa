"""Data sets of the comparison, and what the frozen part makes of them, computed once.

A new data set is one small class like `Pack`. Knows streams and bundles, no method.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.errors import ConfigError, StreamError
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.prediction import Features
from plr_edge.stream import Frame, open_stream
from plr_edge.stream.base import in_chunks

_CHUNK = 16
_PARTS = ("latents", "taps", "features")
_HELD_OUT_EVERY = 4  # frame of a class in a folder, as in the packs without a split of their own
_PURPOSE = {"train": "teach", "test": "hold out"}
Say = Callable[[str], None]


class Dataset(Protocol):
    """Frames with labels in two parts."""

    @property
    def name(self) -> str:
        """For people and for files."""
        ...

    def version(self, data: Path) -> str:
        """Return what differs when the frames do; '' for data that never changes."""
        ...

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield the frames of `part`, `train` or `test`, always in the same order."""
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

    def version(self, data: Path) -> str:
        """Say that packs do not change; see `Dataset`."""
        return ""

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield frames; see `Dataset`."""
        path = data / self.folder
        if not path.exists():
            raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
        split, limit = (self.train, self.limit_per_class) if part == "train" else (self.test, None)
        return open_stream(path, split=split, limit_per_class=limit)


@dataclass(frozen=True)
class Folder:
    """Whatever else `open_stream` reads, such as `class/image`; every fourth frame is held out.

    Attributes:
        path: of the folder or file.
    """

    path: Path

    @property
    def name(self) -> str:
        """Return the folder's own name; see `Dataset`."""
        return self.path.resolve().stem

    def version(self, data: Path) -> str:
        """Return a digest of names, sizes and times; see `Dataset`."""
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield frames that carry a label; see `Dataset`."""
        counts: dict[str, int] = {}
        for frame in open_stream(self.path):
            if frame.label is None:
                continue
            counts[frame.label] = n = counts.get(frame.label, 0) + 1
            if (n % _HELD_OUT_EVERY == 0) == (part == "test"):
                yield frame


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


def find_dataset(name: str) -> Dataset:
    """Return a data set by name, or that of a folder.

    Raises:
        ConfigError: it is neither.
    """
    if name in DATASETS:
        return DATASETS[name]
    if Path(name).exists():
        return Folder(Path(name))
    raise ConfigError(
        f"no data set {name!r}; give {', '.join(DATASETS)}, or a folder of class/image"
    )


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

    seen: Features
    labels: np.ndarray
    rows: np.ndarray
    images: Images

    def take(self, rows: np.ndarray | slice) -> Part:
        """Return frames in another order, in memory."""
        return replace(
            self, seen=self.seen.take(rows), labels=self.labels[rows], rows=self.rows[rows]
        )


def load_parts(
    dataset: Dataset, bundle: Bundle, data: Path, cache: Path, say: Say
) -> tuple[Part, Part, list[str], float]:
    """Run both splits through a bundle's engines once, or map what an earlier run kept.

    Returns:
        The taught and the held-out part, names of the classes, seconds a frame.

    Raises:
        StreamError: the data set is not there.
    """
    folder = cache / "-".join(
        filter(None, (dataset.name, dataset.version(data), bundle.frozen_sha256[:12]))
    )
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
        parts.append(Part(Features(*arrays), labels, np.arange(len(labels)), images))
    return parts[0], parts[1], facts["classes"], facts["frozen_s"]


def _keep(dataset: Dataset, bundle: Bundle, data: Path, folder: Path) -> None:
    perception = Perception(bundle, CombinedClassifier(bundle.taps_width, bundle.feature_width), [])
    classes: dict[str, int] = {}
    n_frames, start = 0, time.perf_counter()
    for part in ("train", "test"):
        seen: list[Features] = []
        labels: list[int] = []
        for chunk in in_chunks(dataset.frames(data, part), _CHUNK):
            labels += [classes.setdefault(str(f.label), len(classes)) for f in chunk]
            seen.append(perception.perceive(chunk))
        if not seen:
            raise StreamError(f"{dataset.name} has no frame to {_PURPOSE[part]}; give more a class")
        for name in _PARTS:
            array = np.concatenate([getattr(one, name) for one in seen])
            np.save(folder / f"{part}_{name}.npy", array)
        np.save(folder / f"{part}_labels.npy", np.array(labels))
        n_frames += len(labels)
    facts = {"classes": list(classes), "frozen_s": (time.perf_counter() - start) / n_frames}
    (folder / "facts.json").write_text(json.dumps(facts))
