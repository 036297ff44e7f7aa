"""Image packs: folders of .npz files, one a class or object, as used in the benchmarks.

Frames come one class after another in the order of the files, as a robot would be shown them;
inside a class they keep their order. Stamps are made up, 33 ms apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.archive import Archive
from plr_edge.stream.base import Entry, Repeatable, Stream, one_line
from plr_edge.stream.files import natural
from plr_edge.stream.folder import class_folders, images
from plr_edge.stream.pack_kinds import SPLITS, Choice, Kind, kind_of

_FRAME_NS = 33_000_000  # made-up stamps: about 30 frames a second
_Plan = list[tuple[Path, Kind, list[Choice]]]


def is_pack(path: Path) -> bool:
    """Say whether a path is a pack or one file of it; a folder of images is none."""
    if not path.is_dir():
        return path.suffix == ".npz"
    try:
        return any(path.glob("*.npz")) and not images(path) and not class_folders(path)
    except OSError:
        return False  # `open_folder` will say what is wrong


def open_pack(path: Path, split: str, strict: bool, limit_per_class: int | None = None) -> Stream:
    """Open a pack or one file of it.

    Args:
        path: folder, or .npz file.
        split: `train`, `test` or `all` as the pack's README defines them (turntable: every fourth
            frame is held out; eth80: the last ten views of each object; grocery: `train` includes
            the validation images), or `axis0` and `axis1`, the two sessions of a turntable.
        strict: stop at an unreadable image.
        limit_per_class: take the first so many of each class.

    Raises:
        StreamError: the split is unknown or holds nothing, or a file is no pack.
    """
    files = [path] if path.suffix == ".npz" else sorted(path.glob("*.npz"), key=natural)
    plan = _plan(path, files, split, limit_per_class)
    n_frames = sum(len(choices) for _, _, choices in plan)
    if not n_frames:
        raise StreamError(
            f"split {split!r} of {one_line(path)} holds no frame; there are {', '.join(SPLITS)}"
        )
    entries = Repeatable(partial(_entries, plan))
    return Stream(entries, n_frames=n_frames, strict=strict, labelled=True)


def _plan(path: Path, files: list[Path], split: str, limit: int | None) -> _Plan:
    """Choose the frames of every file; no pixels are read, and nothing of them is kept."""
    plan: _Plan = []
    counts: dict[str, int] = {}
    for file in files:
        archive = Archive(file)
        kind = kind_of(archive)
        if plan and kind is not plan[0][1]:
            raise StreamError(
                f"{one_line(path)} holds packs of several kinds ({plan[0][1].name}, {kind.name}); "
                "give one of its files"
            )
        chosen = []
        for choice in kind.choose(archive, split):
            counts[choice.label] = counts.get(choice.label, 0) + 1
            if limit is None or counts[choice.label] <= limit:
                chosen.append(choice)
        plan.append((file, kind, chosen))
    return plan


def _entries(plan: _Plan) -> Iterator[Entry]:
    position = 0
    for file, kind, choices in plan:
        archive = Archive(file)
        for choice in choices:
            part = choice.array.rpartition("_")[0]  # train_x -> train; jpeg and x have none
            source = f"{file}#{part}{choice.at}"
            load = partial(_load, archive, kind, choice, source)
            yield Entry(load, choice.label, position * _FRAME_NS, source, str(file))
            position += 1


def _load(archive: Archive, kind: Kind, choice: Choice, source: str) -> np.ndarray:
    try:
        image = kind.decode(archive, choice.array, choice.at, source)
    except (IndexError, ValueError, TypeError) as error:
        raise archive.damaged(error) from None
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise archive.damaged(f"{choice.array} holds {image.shape} {image.dtype}")
    return image
