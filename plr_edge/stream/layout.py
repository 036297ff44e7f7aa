"""Which images of a tree of files belong to which class. Knows paths only, opens nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, one_line
from plr_edge.stream.files import natural
from plr_edge.stream.formats import advice, counted

SPLITS = ("train", "val", "test", "all")
_PART_OF = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "eval": "val", "evaluation": "val", "test": "test", "testing": "test",
}  # fmt: skip
_NAMED = 5  # examples in a message


@dataclass(frozen=True)
class File:
    """A file of a tree.

    Attributes:
        parts: names of its folders below the root, then its own.
        is_image: whether it is read as an image.
        entry: makes the entry of the file, given its label.
    """

    parts: tuple[str, ...]
    is_image: bool
    entry: Callable[[str | None], Entry]


@dataclass
class Tree:
    """Files below a root, without those of the operating system.

    Attributes:
        name: the root, for messages.
        files: all files.
        folders: folders by their parts, those without a file included.
        hidden: images in folders whose names begin with a dot, by these folders.
    """

    name: str
    files: list[File] = field(default_factory=list)
    folders: set[tuple[str, ...]] = field(default_factory=set)
    hidden: Counter[str] = field(default_factory=Counter)

    def below(self, folder: str) -> Tree:
        """Return what lies in a folder of the root."""
        return Tree(
            f"{self.name}/{folder}",
            [
                File(f.parts[1:], f.is_image, f.entry)
                for f in self.files
                if len(f.parts) > 1 and f.parts[0] == folder
            ],
            {parts[1:] for parts in self.folders if len(parts) > 1 and parts[0] == folder},
            self.hidden,
        )


@dataclass
class Layout:
    """Images and their classes, and what was left out.

    Attributes:
        pairs: files and their labels, in order.
        notes: what was found and what was left out, a sentence each.
    """

    pairs: list[tuple[File, str | None]]
    notes: list[str]


def splits_of(tree: Tree) -> dict[str, list[str]]:
    """Return the folders of `train`, `val` and `test`, if these are parts of a data set.

    They are if there is `train` beside `val` or `test`, and each contains class folders with
    images. Otherwise a folder of such a name is a class.
    """
    found: dict[str, list[str]] = {}
    for folder in sorted({f.parts[0] for f in tree.files if f.is_image and len(f.parts) > 2}):
        if part := _PART_OF.get(folder.lower()):
            found.setdefault(part, []).append(folder)
    return found if "train" in found and len(found) > 1 else {}


def arrange(tree: Tree, split: str) -> Layout:
    """Find the classes of a tree, in the natural order of their names.

    A class is a folder below the root, or below `train`, `val` and `test`. Images deeper inside
    belong to the same class. Without class folders, images have no label. If all images are in one
    folder, and that is a data set with splits, it is taken for the root.

    Args:
        tree: the files.
        split: one of `SPLITS`. `train` and `all` are the whole of a tree without splits.

    Raises:
        StreamError: there is no image, or no such split.
    """
    inner = data_set_of(tree)
    layout = _arranged(inner, split)
    if inner is not tree:
        (top,) = {f.parts[0] for f in tree.files if f.is_image}
        rest = [f for f in tree.files if f.parts[0] != top]
        layout.notes += _left_out(rest, f"beside {one_line(top)}/")
    if tree.hidden:
        (first, _), n = tree.hidden.most_common(1)[0], sum(tree.hidden.values())
        layout.notes.append(
            f"left out {n} images in folders whose names begin with a dot, e.g. {one_line(first)}; "
            "rename these if they are classes"
        )
    return layout


def data_set_of(tree: Tree) -> Tree:
    """Return the only folder with images of a tree if that has splits, otherwise the tree."""
    tops = {f.parts[0] for f in tree.files if f.is_image and len(f.parts) > 1}
    if len(tops) != 1 or any(f.is_image and len(f.parts) == 1 for f in tree.files):
        return tree
    below = tree.below(*tops)
    return below if splits_of(below) else tree


def _arranged(tree: Tree, split: str) -> Layout:
    splits = splits_of(tree)
    if not splits:
        if split in ("val", "test"):
            raise no_split(tree.name, split)
        return _classes(tree.name, [tree])
    if split != "all" and split not in splits:
        there = ", ".join(f"{x}/" for part in SPLITS for x in splits.get(part, ()))
        raise StreamError(f"{one_line(tree.name)} has no split {split!r}; it contains {there}")
    chosen = SPLITS[:-1] if split == "all" else (split,)
    folders = [folder for part in chosen for folder in splits.get(part, ())]
    layout = _classes(tree.name, [tree.below(folder) for folder in folders])
    others = [f"{x}/" for part in SPLITS for x in splits.get(part, ()) if x not in folders]
    if others:
        layout.notes.append(
            f"read {_and(f'{x}/' for x in folders)} of {one_line(tree.name)}, not {_and(others)}; "
            "--split chooses"
        )
    split_folders = {x for own in splits.values() for x in own}
    rest = [f for f in tree.files if f.parts[0] not in split_folders]
    layout.notes += _left_out(rest, f"beside {_and(f'{x}/' for x in sorted(split_folders))}")
    return layout


def no_split(name: str, split: str) -> StreamError:
    """Return the error for a split that a source does not have."""
    return StreamError(
        f"{one_line(name)} has no split {split!r}; only `demo` and folders that contain train/ "
        "beside val/ or test/, with class folders in each, have one"
    )


def _classes(name: str, trees: Sequence[Tree]) -> Layout:
    """Find the classes of one tree, or of several that are merged by class."""
    files = [f for tree in trees for f in tree.files]
    images = [f for f in files if f.is_image]
    inside = [f for f in images if len(f.parts) > 1]
    if not images:
        raise StreamError(_no_image(name, files))
    if not inside:
        flat = sorted(images, key=lambda f: _natural(f.parts))
        return Layout([(f, None) for f in flat], _left_out([f for f in files if not f.is_image]))
    # class by class; in a class those of the first tree first, where names are equal
    inside.sort(key=lambda f: _natural(f.parts))
    notes = _deeper(inside)
    known = {f.parts[0] for f in inside}
    empty = {parts[0] for tree in trees for parts in tree.folders} - known
    notes += _without_image(sorted(empty), files)
    beside = [f for f in images if len(f.parts) == 1]
    notes += _left_out(beside, "beside the class folders", "images")
    others = [f for f in files if not f.is_image and f.parts[0] not in empty]
    notes += _left_out(others)
    return Layout([(f, f.parts[0]) for f in inside], notes)


def _natural(parts: Iterable[str]) -> list[list[tuple[int, int | str]]]:
    return [natural(Path(part)) for part in parts]


def _deeper(images: Sequence[File]) -> list[str]:
    deep = [f for f in images if len(f.parts) > 2]
    if not deep:
        return []
    first = "/".join(deep[0].parts)
    return [
        f"{len(deep)} images lie in folders inside a class folder, e.g. {one_line(first)}; each "
        f"has the class of the outermost folder, here {one_line(deep[0].parts[0])!r}"
    ]


def _without_image(names: Sequence[str], files: Sequence[File]) -> list[str]:
    """Name class folders of which nothing is read."""
    notes = []
    for name in names[:_NAMED]:
        own = [f.parts[-1] for f in files if len(f.parts) > 1 and f.parts[0] == name]
        why = f"contains no image but {counted(own)}{advice(own)}" if own else "is empty"
        notes.append(f"nothing was read of the folder {one_line(name)!r}: it {why}")
    if len(names) > _NAMED:
        notes.append(f"nothing was read of {len(names) - _NAMED} other folders without images")
    return notes


def _left_out(files: Sequence[File], where: str = "", what: str = "files") -> list[str]:
    if not files:
        return []
    names = [f.parts[-1] for f in files]
    place = f" {where}" if where else ""
    noun = what if len(files) > 1 else what[:-1]
    kinds = "" if what == "images" else f" ({counted(names)})"
    return [
        f"left out {len(files)} {noun}{place}{kinds}, e.g. "
        f"{one_line('/'.join(files[0].parts), 80)}{advice(names)}"
    ]


def _no_image(name: str, files: Sequence[File]) -> str:
    names = [f.parts[-1] for f in files]
    found = f"it contains {counted(names)}" if files else "it is empty"
    return (
        f"{one_line(name)} contains no image that can be read; {found}{advice(names)}. A stream "
        "is a folder of class/image or a folder of images (.jpg .png .webp .heic and others)"
    )


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
