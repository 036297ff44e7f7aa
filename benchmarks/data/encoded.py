"""A data set as an encoder returns it, computed once and kept on disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.data.datasets import DataSet
from benchmarks.data.encoders import Encoder
from plr_edge.errors import StreamError
from plr_edge.runtime.prediction import Features
from plr_edge.stream import Frame
from plr_edge.stream.base import in_chunks

_ARRAYS = ("latents", "taps", "features")
_PURPOSE = {"train": "teach", "test": "hold out"}
Say = Callable[[str], None]


class Images:
    """Images of a split, decoded when asked for and then kept."""

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
class Split:
    """Encoded frames.

    Attributes:
        seen: latents, taps (n, T), and features (n, F) of the network as exported. An encoder
            whose latents are vectors returns them as features too.
        labels: (n,) class indices, in the order of first appearance in the data set.
        rows: (n,) positions in the data set.
        images: source of the images.
    """

    seen: Features
    labels: np.ndarray
    rows: np.ndarray
    images: Images

    def take(self, rows: np.ndarray | slice) -> Split:
        """Return some of the frames, in memory."""
        return replace(
            self, seen=self.seen.take(rows), labels=self.labels[rows], rows=self.rows[rows]
        )

    def every(self, n: int) -> Split:
        """Return about `n` frames at equal distances, or all if there are fewer."""
        return self.take(np.arange(0, len(self.labels), max(1, len(self.labels) // n)))


@dataclass(frozen=True)
class Encoded:
    """Both parts of a data set.

    Attributes:
        train: frames to teach.
        test: held-out frames.
        classes: names of the classes.
        frozen_s: seconds that encoding one frame took.
    """

    train: Split
    test: Split
    classes: list[str]
    frozen_s: float


def encode(dataset: DataSet, encoder: Encoder, data: Path, cache: Path, say: Say) -> Encoded:
    """Encode both parts, or map what an earlier run kept.

    Raises:
        StreamError: the data set is missing, or a part of it is empty.
    """
    name = "-".join(filter(None, (dataset.name, dataset.version(data), encoder.name)))
    folder = cache / name
    if not (folder / "facts.json").is_file():
        say(f"encoding {dataset.name} with {encoder.name}")
        unfinished = folder.with_name(folder.name + ".partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _keep(dataset, encoder, data, unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    facts = json.loads((folder / "facts.json").read_text())
    train, test = (_read(folder, part, partial(dataset.frames, data, part)) for part in _PURPOSE)
    return Encoded(train, test, facts["classes"], facts["frozen_s"])


def _read(folder: Path, part: str, frames: Callable[[], Iterable[Frame]]) -> Split:
    labels = np.load(folder / f"{part}_labels.npy")
    files = {name: folder / f"{part}_{name}.npy" for name in _ARRAYS}
    arrays = {n: np.load(f, mmap_mode="r") for n, f in files.items() if f.is_file()}
    taps = arrays.get("taps", np.zeros((len(labels), 0), np.float32))
    seen = Features(arrays["latents"], taps, arrays.get("features", arrays["latents"]))
    return Split(seen, labels, np.arange(len(labels)), Images(frames))


def _keep(dataset: DataSet, encoder: Encoder, data: Path, folder: Path) -> None:
    classes: dict[str, int] = {}
    n_frames, start = 0, time.perf_counter()
    for part, purpose in _PURPOSE.items():
        seen: list[Features] = []
        labels: list[int] = []
        for chunk in in_chunks(dataset.frames(data, part), encoder.chunk):
            labels += [classes.setdefault(str(f.label), len(classes)) for f in chunk]
            seen.append(encoder.encode(chunk))
        if not seen:
            raise StreamError(f"{dataset.name} has no frame to {purpose}; add images to each class")
        for name in _ARRAYS:
            array = np.concatenate([getattr(one, name) for one in seen])
            if array.size:
                np.save(folder / f"{part}_{name}.npy", array)
        np.save(folder / f"{part}_labels.npy", np.array(labels))
        n_frames += len(labels)
    facts = {"classes": list(classes), "frozen_s": (time.perf_counter() - start) / n_frames}
    (folder / "facts.json").write_text(json.dumps(facts))
