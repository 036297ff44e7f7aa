"""The layouts of .npz packs: which images a split holds, and how one image is decoded.

A layout is recognised by the names of its arrays. Choosing images reads no pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data.archive import Archive
from plr_edge.errors import StreamError
from plr_edge.stream.base import one_line
from plr_edge.stream.decode import decode_image

SPLITS = ("train", "test", "all", "axis0", "axis1")
_HELD_OUT_EVERY = 4  # turntable: every fourth frame is held out
_ETH80_TEST_VIEWS = 10  # eth80: the last ten views of each object are held out


class ImageRef(NamedTuple):
    """An image of a file: the array that holds it, its index there, and its label."""

    array: str
    position: int
    label: str


@dataclass(frozen=True)
class Layout:
    """Names of the arrays, the images of a split, and the decoder of one image."""

    name: str
    arrays: frozenset[str]
    choose: Callable[[Archive, str], list[ImageRef]]
    decode: Callable[[Archive, str, int, str], np.ndarray]


def layout_of(archive: Archive) -> Layout:
    """Recognise a file by the names of its arrays. Files with `train_y` hold several classes.

    Raises:
        StreamError: no layout has these arrays.
    """
    for layout in _LAYOUTS:
        if layout.arrays <= archive.names and "train_y" not in archive.names:
            return layout
    held = one_line(", ".join(sorted(archive.names)) or "nothing", 80)
    raise StreamError(f"{one_line(archive.path)} is not a known image pack; it holds {held}")


def _label_of(file: Path) -> str:
    number, _, name = file.stem.partition("_")
    return name if number.isdecimal() and name else file.stem


def _masked(split: str, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    masks: dict[str, np.ndarray] = {"train": train, "test": test, "all": train | test}
    return masks[_no_axis(split)]


def _no_axis(split: str) -> str:
    if split not in ("train", "test", "all"):
        raise StreamError(f"only turntables have the split {split!r}; give train, test or all")
    return split


def _axis_mask(axis: np.ndarray, split: str) -> np.ndarray:
    within = np.arange(len(axis)) - np.where(axis == 1, int((axis == 0).sum()), 0)
    held_out = within % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    if split in ("axis0", "axis1"):
        return np.asarray(axis == int(split[-1]))
    return _masked(split, ~held_out, held_out)


def _n_jpegs(archive: Archive) -> int:
    return max(int(np.prod(archive.shape("offset"))) - 1, 0)


def _refs(array: str, indices: Iterable[int], labels: list[str]) -> list[ImageRef]:
    return [ImageRef(array, int(i), labels[i]) for i in indices]


def _turntable(archive: Archive, split: str) -> list[ImageRef]:
    axis = archive.column("axis", _n_jpegs(archive))
    labels = [_label_of(archive.path)] * len(axis)
    return _refs("jpeg", np.flatnonzero(_axis_mask(axis, split)), labels)


def _grocery(archive: Archive, split: str) -> list[ImageRef]:
    """Fine classes one after another; train is the authors' train and validation."""
    fine, part = (archive.column(name, _n_jpegs(archive)) for name in ("fine", "split"))
    path = archive.path.parent / "classes.json"
    try:
        names = [str(name) for name in json.loads(path.read_text(encoding="utf-8"))["fine"]]
        labels = [names[int(i)] for i in fine]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StreamError(
            f"{one_line(path)} does not name the classes of the pack ({one_line(error, 80)}); "
            "copy it again"
        ) from None
    mask = _masked(split, part < 2, part == 2)
    return _refs("jpeg", (i for i in np.argsort(fine, kind="stable") if mask[i]), labels)


def _eth80(archive: Archive, split: str) -> list[ImageRef]:
    """A class is an object (`cup_3`); the last ten of its 41 views are held out."""
    objects = archive.column("object", _n_jpegs(archive))
    test = np.zeros(len(objects), bool)
    for number in np.unique(objects):
        test[np.flatnonzero(objects == number)[-_ETH80_TEST_VIEWS:]] = True
    labels = [f"{_label_of(archive.path)}_{number}" for number in objects]
    return _refs("jpeg", np.flatnonzero(_masked(split, ~test, test)), labels)


def _jpeg(archive: Archive, array: str, index: int, source: str) -> np.ndarray:
    return decode_image(archive.jpeg(index), source)


def _parts(split: str) -> list[str]:
    return ["train", "test"] if _no_axis(split) == "all" else [split]


def _cifar(archive: Archive, split: str) -> list[ImageRef]:
    names = [f"{part}_q" for part in _parts(split)]
    label = _label_of(archive.path)
    for name in names:
        if len(archive.shape(name)) != 4 or archive.shape(name)[0] != 3:
            raise archive.damaged(f"{name} has the shape {archive.shape(name)}")
    return [ImageRef(name, i, label) for name in names for i in range(archive.shape(name)[1])]


def _differences(archive: Archive, array: str, index: int, source: str) -> np.ndarray:
    """Undo two-dimensional differences of the planes G, R - G and B - G."""
    planes = archive[array][:, index].cumsum(-1, dtype=np.uint8).cumsum(-2, dtype=np.uint8)
    green = planes[0]
    return np.stack([planes[1] + green, green, planes[2] + green], -1)


def _mnist(archive: Archive, split: str) -> list[ImageRef]:
    names = [f"{part}_x" for part in _parts(split)]
    label = _label_of(archive.path)
    return [ImageRef(name, i, label) for name in names for i in range(archive.shape(name)[0])]


def _plain(archive: Archive, array: str, index: int, source: str) -> np.ndarray:
    image = archive[array][index]
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


_LAYOUTS = [
    Layout("turntable", frozenset({"jpeg", "offset", "axis", "frame"}), _turntable, _jpeg),
    Layout("grocery", frozenset({"jpeg", "offset", "fine", "split"}), _grocery, _jpeg),
    Layout("eth80", frozenset({"jpeg", "offset", "object"}), _eth80, _jpeg),
    Layout("cifar", frozenset({"train_q", "test_q"}), _cifar, _differences),
    Layout("mnist", frozenset({"train_x", "test_x"}), _mnist, _plain),
]
