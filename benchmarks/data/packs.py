"""Image packs: folders of .npz files, one per class or object, and how to unpack them.

Classes come one after another in the order of the files, and images of a class keep their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.archive import Archive
from benchmarks.data.layouts import SPLITS, ImageRef, Layout, layout_of
from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Repeatable, Stream, one_line
from plr_edge.stream.files import natural

_FRAME_NS = 33_000_000  # invented stamps: about 30 frames a second
_Plan = list[tuple[Path, Layout, list[ImageRef]]]


def open_pack(path: Path, split: str = "train", limit_per_class: int | None = None) -> Stream:
    """Open a pack or one file of it.

    Args:
        path: folder, or .npz file.
        split: `train`, `test` or `all` as the pack's README defines them (turntable: every fourth
            frame is held out; eth80: the last ten views of each object; grocery: `train` includes
            the validation images), or `axis0` and `axis1`, the two sessions of a turntable.
        limit_per_class: take at most this many images of each class.

    Raises:
        StreamError: the split is unknown or empty, or a file is not a pack.
    """
    if split not in SPLITS:
        raise StreamError(f"no split {split[:40]!r}; there are {', '.join(SPLITS)}")
    plan = _plan(path, split, limit_per_class)
    n_frames = sum(len(refs) for _, _, refs in plan)
    if not n_frames:
        raise StreamError(
            f"split {split!r} of {one_line(path)} holds no frame; there are {', '.join(SPLITS)}"
        )
    return Stream(Repeatable(partial(_entries, plan)), n_frames=n_frames, labelled=True)


def unpack(path: Path, folder: Path) -> int:
    """Write a pack as `folder/train/CLASS/0001.jpg` and `folder/test/...`; return the images.

    JPEG data is copied as it is, other images become PNG. Numbers count the images of a class
    over both parts, so sorting both by name gives the order of the split `all`.
    """
    held_out = {(file, ref) for file, _, refs in _plan(path, "test", None) for ref in refs}
    counts: Counter[str] = Counter()
    for file, layout, refs in _plan(path, "all", None):
        archive = Archive(file)
        for ref in refs:
            part = "test" if (file, ref) in held_out else "train"
            counts[ref.label] += 1
            target = folder / part / ref.label / f"{counts[ref.label]:04}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if ref.array == "jpeg":
                target.with_suffix(".jpg").write_bytes(archive.jpeg(ref.position))
            else:
                image = layout.decode(archive, ref.array, ref.position, str(target))
                Image.fromarray(image).save(target.with_suffix(".png"))
    return sum(counts.values())


def _plan(path: Path, split: str, limit: int | None) -> _Plan:
    """Choose the images of every file without reading pixels."""
    files = [path] if path.suffix == ".npz" else sorted(path.glob("*.npz"), key=natural)
    if not files:
        raise StreamError(f"{one_line(path)} holds no image pack (.npz)")
    plan: _Plan = []
    counts: Counter[str] = Counter()
    for file in files:
        archive = Archive(file)
        layout = layout_of(archive)
        if plan and layout is not plan[0][1]:
            raise StreamError(
                f"{one_line(path)} holds packs of different layouts ({plan[0][1].name}, "
                f"{layout.name}); give one of its files"
            )
        chosen = []
        for ref in layout.choose(archive, split):
            counts[ref.label] += 1
            if limit is None or counts[ref.label] <= limit:
                chosen.append(ref)
        plan.append((file, layout, chosen))
    return plan


def _entries(plan: _Plan) -> Iterator[Entry]:
    position = 0
    for file, layout, refs in plan:
        archive = Archive(file)
        for ref in refs:
            part = ref.array.rpartition("_")[0]  # train_x -> train; jpeg and x have none
            source = f"{file}#{part}{ref.position}"
            load = partial(_load, archive, layout, ref, source)
            yield Entry(load, ref.label, position * _FRAME_NS, source, str(file))
            position += 1


def _load(archive: Archive, layout: Layout, ref: ImageRef, source: str) -> np.ndarray:
    try:
        image = layout.decode(archive, ref.array, ref.position, source)
    except (IndexError, ValueError, TypeError) as error:
        raise archive.damaged(error) from None
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise archive.damaged(f"{ref.array} holds {image.shape} {image.dtype}")
    return image
