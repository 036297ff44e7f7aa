"""Image packs: folders of .npz files, one a class or object, as used in the benchmarks.

Frames come one class after another in the order of the files, as a robot would be shown them;
inside a file they keep their order. Stamps are made up, 33 ms apart.
"""

from __future__ import annotations

import json
import lzma
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Stream, decode_image

SPLITS = ("train", "test", "all", "axis0", "axis1")
_FRAME_NS = 33_000_000
_HELD_OUT_EVERY = 4  # turntable: every fourth frame is a test frame
_ETH80_TEST_VIEWS = 10  # eth80: the last ten views of each object are test frames


@dataclass(frozen=True)
class _Member:
    """One image inside a pack."""

    load: Callable[[], np.ndarray]
    label: str
    source: str


_Arrays = dict[str, np.ndarray]


def is_pack(path: Path) -> bool:
    """Say whether a path is a pack or one file of it."""
    return path.suffix == ".npz" or (path.is_dir() and any(path.glob("*.npz")))


def open_pack(path: Path, split: str, strict: bool, limit_per_class: int | None) -> Stream:
    """Open a pack or one file of it.

    Args:
        path: folder, or .npz file.
        split: `train`, `test` or `all` as the pack's README defines them (turntable: every fourth
            frame is held out; eth80: the last ten views), or `axis0` and `axis1`, the two sessions
            of a turntable.
        strict: stop at an unreadable image.
        limit_per_class: take the first so many of each class.

    Raises:
        StreamError: the split is unknown, or a file is no pack.
    """
    if split not in SPLITS:
        raise StreamError(f"no split {split[:40]!r}; there are {', '.join(SPLITS)}")
    files = [path] if path.suffix == ".npz" else sorted(path.glob("*.npz"))
    return Stream(_entries(files, split, limit_per_class), strict=strict)


def _entries(files: list[Path], split: str, limit: int | None) -> Iterator[Entry]:
    position = 0
    counts: dict[str, int] = {}
    for file in files:
        for member in _members(file, split):
            counts[member.label] = counts.get(member.label, 0) + 1
            if limit is not None and counts[member.label] > limit:
                continue
            yield Entry(member.load, member.label, position * _FRAME_NS, member.source)
            position += 1


def _members(file: Path, split: str) -> Iterator[_Member]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, lzma.LZMAError, KeyError, EOFError) as error:
        reason = " ".join(str(error).split())[:100]
        raise StreamError(f"{file} is no whole image pack ({reason}); copy it again") from None
    for keys, reader in _READERS:
        if keys <= set(arrays):
            return reader(file, arrays, split)
    raise StreamError(f"{file} is no image pack that we know: it holds {', '.join(arrays) or 'nothing'}")


def _label_of(file: Path) -> str:
    number, _, name = file.stem.partition("_")
    return name if number.isdigit() and name else file.stem


def _jpeg_members(
    file: Path, arrays: _Arrays, chosen: np.ndarray, labels: list[str]
) -> Iterator[_Member]:
    jpeg, offset = arrays["jpeg"], arrays["offset"]
    for i in chosen:
        data = jpeg[offset[i] : offset[i + 1]]
        source = f"{file}#{i}"
        yield _Member(partial(_decode, data, source), labels[i], source)


def _decode(data: np.ndarray, source: str) -> np.ndarray:
    return decode_image(data.tobytes(), source)


def _turntable(file: Path, arrays: _Arrays, split: str) -> Iterator[_Member]:
    axis = arrays["axis"]
    within = np.arange(len(axis)) - np.where(axis == 1, int((axis == 0).sum()), 0)
    held_out = within % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    mask = {
        "train": ~held_out,
        "test": held_out,
        "all": axis >= 0,
        "axis0": axis == 0,
        "axis1": axis == 1,
    }[split]
    return _jpeg_members(file, arrays, np.flatnonzero(mask), [_label_of(file)] * len(axis))


def _grocery(file: Path, arrays: _Arrays, split: str) -> Iterator[_Member]:
    names = json.loads((file.parent / "classes.json").read_text())["fine"]
    names = [name if isinstance(name, str) else name[0] for name in names]
    part = arrays["split"]
    labels = [names[int(i)] for i in arrays["fine"]]
    order = np.argsort(arrays["fine"], kind="stable")
    chosen = order[_by_split(split, part[order] < 2, part[order] == 2)]
    return _jpeg_members(file, arrays, chosen, labels)


def _by_split(split: str, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    if split not in ("train", "test", "all"):
        raise StreamError(f"split {split!r} is of turntables; this pack has train, test and all")
    return np.flatnonzero({"train": train, "test": test, "all": train | test}[split])


def _views(file: Path, arrays: _Arrays, split: str) -> Iterator[_Member]:
    """eth80: objects of a category in one file, views in order."""
    objects = arrays["object"]
    test = np.zeros(len(objects), bool)
    for number in np.unique(objects):
        test[np.flatnonzero(objects == number)[-_ETH80_TEST_VIEWS:]] = True
    chosen = _by_split(split, ~test, test)
    labels = [f"{_label_of(file)}_{number}" for number in objects]
    return _jpeg_members(file, arrays, chosen, labels)


def _differences(file: Path, arrays: _Arrays, split: str) -> Iterator[_Member]:
    """cifar: two-dimensional differences of the planes G, R - G and B - G."""
    parts = [p for p in ("train", "test") if split in (p, "all")]
    if not parts:
        _by_split(split, np.zeros(0, bool), np.zeros(0, bool))
    for part in parts:
        q = arrays[f"{part}_q"]
        planes = q.cumsum(-1, dtype=np.uint8).cumsum(-2, dtype=np.uint8)
        images = np.stack([planes[1] + planes[0], planes[0], planes[2] + planes[0]], -1)
        for i, image in enumerate(images):
            yield _Member(partial(_itself, image), _label_of(file), f"{file}#{part}{i}")


def _itself(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _plain(file: Path, arrays: _Arrays, split: str) -> Iterator[_Member]:
    """mnist: plain grey images of one digit."""
    parts = [p for p in ("train", "test") if split in (p, "all")]
    if not parts:
        _by_split(split, np.zeros(0, bool), np.zeros(0, bool))
    for part in parts:
        for i, image in enumerate(arrays[f"{part}_x"]):
            yield _Member(partial(_itself, image), _label_of(file), f"{file}#{part}{i}")


def _tiny(file: Path, arrays: _Arrays, split: str) -> Iterator[_Member]:
    """Several classes in one file, labels beside the images."""
    for part in [p for p in ("train", "test") if split in (p, "all")]:
        labels = arrays[f"{part}_y"]
        for i in np.argsort(labels, kind="stable"):
            image = arrays[f"{part}_x"][i]
            yield _Member(partial(_itself, image), f"class_{labels[i]}", f"{file}#{part}{i}")


_Reader = Callable[[Path, _Arrays, str], Iterator[_Member]]
_READERS: list[tuple[set[str], _Reader]] = [
    ({"jpeg", "offset", "axis", "frame"}, _turntable),
    ({"jpeg", "offset", "fine", "split"}, _grocery),
    ({"jpeg", "offset", "object"}, _views),
    ({"train_q", "test_q"}, _differences),
    ({"train_x", "train_y", "test_x", "test_y"}, _tiny),
    ({"train_x", "test_x"}, _plain),
]
