"""Folders of images: one sub-folder per class, a flat folder, or `train/` and `test/` of these.

The same in a .zip or .tar file is read by `archive`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Stream, one_line
from plr_edge.stream.files import file_entry, finite, in_order
from plr_edge.stream.formats import HEAD_BYTES, is_image_head, is_image_name, is_system_file
from plr_edge.stream.layout import File, Tree, arrange, data_set_of, no_split, splits_of
from plr_edge.stream.listed import open_csv

_MAX_DEPTH = 32


def open_folder(
    path: Path,
    strict: bool,
    limit_per_class: int | None = None,
    order: str = "given",
    *,
    split: str = "train",
) -> Stream:
    """Open a folder of `class/image`, or a flat folder of images in the order of their names.

    Classes come one after another, see `arrange`. In `time` order, frames are sorted by the
    modification times of the files instead. If the folder contains `labels.csv`, that file is
    opened by `open_csv` instead.

    Raises:
        StreamError: there is no image, or no such split.
    """
    if (path / "labels.csv").is_file():
        if split in ("val", "test"):
            raise no_split(str(path), split)
        stream = open_csv(path / "labels.csv", strict, limit_per_class, order)
        stream.notes += _not_listed(path)
        return stream
    return open_tree(read_tree(path), strict, limit_per_class, order, split)


def _not_listed(path: Path) -> list[str]:
    """Say how many images of a folder its `labels.csv` does not name, a sentence."""
    listed = {os.path.realpath(e.source) for e in open_csv(path / "labels.csv", False).entries}
    images = [f.entry(None).source for f in read_tree(path).files if f.is_image]
    left_out = [source for source in images if os.path.realpath(source) not in listed]
    if not left_out:
        return []
    return [
        f"left out {len(left_out)} of {len(images)} images that {one_line(path / 'labels.csv')} "
        f"does not name, e.g. {one_line(left_out[0])}; without that file the folders name the "
        "classes"
    ]


def open_tree(
    tree: Tree, strict: bool, limit_per_class: int | None, order: str, split: str
) -> Stream:
    """Open the images of a tree, see `arrange`.

    Raises:
        StreamError: there is no image, or no such split.
    """
    layout = arrange(tree, split)
    entries = [file.entry(label) for file, label in layout.pairs]
    stream = finite(in_order(entries, order), strict, limit_per_class)
    stream.notes += layout.notes
    return stream


def read_tree(path: Path) -> Tree:
    """List the files below a folder, links to folders included.

    Raises:
        StreamError: a folder cannot be read.
    """
    tree = Tree(str(path))
    try:
        _walk(path, (), (), tree)
    except OSError as error:
        where = one_line(error.filename or path)
        raise StreamError(f"cannot read {where}: {error.strerror}") from None
    return tree


def held_out_split(path: Path) -> str | None:
    """Return the split of a folder that is not for learning: `test`, else `val`, else None."""
    if not path.is_dir() or (path / "labels.csv").is_file():
        return None
    try:
        splits = splits_of(data_set_of(read_tree(path)))
    except StreamError:
        return None  # opening the folder reports the error
    return next((split for split in ("test", "val") if split in splits), None)


def has_image(path: Path) -> bool:
    """Whether there is an image anywhere below a folder."""
    return any(file.is_image for file in read_tree(path).files)


def _walk(folder: Path, parts: tuple[str, ...], above: tuple[Path, ...], tree: Tree) -> None:
    """Add what a folder contains to `tree`. Folders `above` are not entered again by a link."""
    real = folder.resolve()
    if real in above or len(parts) > _MAX_DEPTH:
        return
    with os.scandir(folder) as found:
        children = sorted(found, key=lambda child: child.name)
    for child in children:
        if is_system_file(child.name):
            if child.name.startswith(".") and child.is_dir(follow_symlinks=False):
                _count_hidden(child, "/".join((*parts, child.name)), tree)
            continue
        path, own = folder / child.name, (*parts, child.name)
        if child.is_dir():
            tree.folders.add(own)
            _walk(path, own, (*above, real), tree)
        else:
            tree.files.append(File(own, _is_image(child), partial(file_entry, path)))


def _count_hidden(folder: os.DirEntry[str], shown: str, tree: Tree) -> None:
    """Count the images directly in a folder whose name begins with a dot."""
    with suppress(OSError), os.scandir(folder.path) as found:
        n_images = sum(
            is_image_name(child.name) and not is_system_file(child.name) for child in found
        )
        if n_images:
            tree.hidden[shown] += n_images


def _is_image(child: os.DirEntry[str]) -> bool:
    if is_image_name(child.name):
        return True  # if it is a pipe or a broken link, loading it reports the error
    if not child.is_file():
        return False
    try:
        with open(child.path, "rb") as file:
            return is_image_head(file.read(HEAD_BYTES))
    except OSError:
        return False  # it is counted among the other files
