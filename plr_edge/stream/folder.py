"""Folders of images: one sub-folder per class, a flat folder, or `train/` and `test/` of these."""

from __future__ import annotations

from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Stream, one_line
from plr_edge.stream.files import file_entry, finite, in_order, natural
from plr_edge.stream.listed import open_csv

SPLITS = ("train", "test", "all")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def class_folders(path: Path) -> list[Path]:
    """List the sub-folders that contain images, sorted."""
    folders = (p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted((folder for folder in folders if images(folder)), key=natural)


def images(folder: Path) -> list[Path]:
    """List the image files of a folder, 2 before 10."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((p for p in files if p.is_file() and p.name[0] != "."), key=natural)


def has_splits(path: Path) -> bool:
    """Whether a folder holds `train/` and `test/`, and each of these holds class folders."""
    try:
        return all((path / part).is_dir() and class_folders(path / part) for part in SPLITS[:2])
    except OSError:
        return False  # `open_folder` will report what is wrong


def open_splits(
    path: Path, split: str, strict: bool, limit_per_class: int | None = None, order: str = "given"
) -> Stream:
    """Open a part of a folder that `has_splits`; `all` merges the images of a class by name."""
    if split != "all":
        return open_folder(path / split, strict, limit_per_class, order)
    folders = [folder for part in SPLITS[:2] for folder in class_folders(path / part)]
    by_class = {folder.name: [f for f in folders if f.name == folder.name] for folder in folders}
    pairs = [
        (file, name)
        for name in sorted(by_class, key=lambda name: natural(Path(name)))
        for file in sorted((f for own in by_class[name] for f in images(own)), key=natural)
    ]
    entries = [file_entry(file, name) for file, name in pairs]
    return finite(in_order(entries, order), strict, limit_per_class)


def open_folder(
    path: Path, strict: bool, limit_per_class: int | None = None, order: str = "given"
) -> Stream:
    """Open a folder of `class/image`, or a flat folder of images in the order of their names.

    Classes come one after another. In `time` order, frames are sorted by the modification times of
    the files instead. If there are class folders, images beside them are ignored. If the folder
    contains `labels.csv`, that file is opened by `open_csv` instead.

    Raises:
        StreamError: there is no image.
    """
    if (path / "labels.csv").is_file():
        return open_csv(path / "labels.csv", strict, limit_per_class, order)
    try:
        folders, flat = class_folders(path), images(path)
        files = [(file, folder.name) for folder in folders for file in images(folder)]
    except OSError as error:
        raise StreamError(f"cannot read {one_line(path)}: {error.strerror}") from None
    if not folders and not flat:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise StreamError(f"{one_line(path)} contains no image; file names must end in {suffixes}")
    pairs: list[tuple[Path, str | None]] = [*files] if files else [(file, None) for file in flat]
    entries = [file_entry(file, label) for file, label in pairs]
    return finite(in_order(entries, order), strict, limit_per_class)
