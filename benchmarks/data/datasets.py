"""The data sets: labelled frames in a part that is taught and a part that is held out.

A new data set is a small class like `Pack` and a line in `DATASETS`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.data.packs import open_pack
from plr_edge.errors import ConfigError, StreamError
from plr_edge.stream import Frame, open_stream

_HELD_OUT_EVERY = 4  # frame of a class in a folder without splits


class DataSet(Protocol):
    """Labelled frames in two parts."""

    @property
    def name(self) -> str:
        """Name in tables and of the cache."""
        ...

    def version(self, data: Path) -> str:
        """Return a text that changes when the frames do; '' for data that never changes."""
        ...

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield the frames of `part`, `train` or `test`, always in the same order."""
        ...


@dataclass(frozen=True)
class Pack:
    """An image pack with two splits.

    Attributes:
        name: name of the data set.
        folder: folder below the data folder.
        train: split that is taught.
        test: split that is held out.
        limit_per_class: most frames taught of each class.
    """

    name: str
    folder: str
    train: str = "train"
    test: str = "test"
    limit_per_class: int | None = None

    def version(self, data: Path) -> str:
        """Return '': packs do not change; see `DataSet`."""
        return ""

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield frames; see `DataSet`."""
        path = data / self.folder
        if not path.exists():
            raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
        split, limit = (self.train, self.limit_per_class) if part == "train" else (self.test, None)
        return open_pack(path, split, limit)


@dataclass(frozen=True)
class Folder:
    """Any source of `open_stream`; every fourth frame of a class is held out."""

    path: Path

    @property
    def name(self) -> str:
        """Return the folder's own name; see `DataSet`."""
        return self.path.resolve().stem

    def version(self, data: Path) -> str:
        """Return a digest of names, sizes and times; see `DataSet`."""
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        facts = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]

    def frames(self, data: Path, part: str) -> Iterable[Frame]:
        """Yield frames that have a label; see `DataSet`."""
        counts: Counter[str] = Counter()
        for frame in open_stream(self.path, split="all"):
            if frame.label is None:
                continue
            counts[frame.label] += 1
            if (counts[frame.label] % _HELD_OUT_EVERY == 0) == (part == "test"):
                yield frame


DATASETS: dict[str, DataSet] = {
    pack.name: pack
    for pack in (
        Pack("cifar100", "cifar100"),
        Pack("grocery", "grocery"),
        Pack("fruits", "fruits-turntable"),
        Pack("fruits-axes", "fruits-turntable", train="axis0", test="axis1"),
        Pack("eth80", "eth80"),
        Pack("mnist", "mnist", limit_per_class=100),
        Pack("mnist-all", "mnist"),
    )
}


def find_dataset(name: str) -> DataSet:
    """Return a data set by name, or the one of a folder.

    Raises:
        ConfigError: there is neither.
    """
    if name in DATASETS:
        return DATASETS[name]
    if Path(name).exists():
        return Folder(Path(name))
    raise ConfigError(
        f"no data set {name!r}; give {', '.join(DATASETS)}, or a folder of class/image"
    )
