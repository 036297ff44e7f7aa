"""Streams of frames from folders, lists, videos, ROS bags and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.bag import is_bag, open_bag
from plr_edge.stream.base import Frame, Skipped, Stream, one_line
from plr_edge.stream.decode import decode_image
from plr_edge.stream.names import check_label
from plr_edge.stream.pixels import PixelRange

__all__ = ["Frame", "Skipped", "Stream", "check_label", "decode_image", "open_stream"]

_SOURCES = (
    "a folder of class/image, a folder of images, a .zip or .tar of one, an image, a .csv, a .txt, "
    "a video, a ROS 2 bag (.mcap, .db3 or its folder), `-` for paths on standard input, or `demo`"
)
_FILM_NS = 33_000_000  # between frames of the embedded film: about 30 a second


def open_stream(
    spec: str | Path,
    *,
    split: str = "train",
    strict: bool = False,
    limit_per_class: int | None = None,
    stdin: Iterable[str] | None = None,
    order: str = "given",
    topic: str | None = None,
    labels: str | None = None,
    white_level: float | None = None,
) -> Stream:
    """Open a finite source of frames.

    Args:
        spec: path of a folder, .zip, .tar, image, .csv, .txt, video or ROS bag. `-` reads paths
            from standard input, and `demo` is the embedded film.
        split: `train`, `val`, `test` or `all` of `demo` or of a folder that contains `train/`
            beside `val/` or `test/`. Other sources have no held-out part: `train` and `all` are
            the whole source.
        strict: stop at an unreadable image instead of skipping it.
        limit_per_class: maximum number of frames per class. Frames without a label are all kept.
        stdin: lines for `-`. None reads standard input.
        order: `given`, or `time` to sort a folder or .csv by stamp. Other sources keep theirs.
        topic: image topic of a ROS bag. Required if there are several.
        labels: topic of a ROS bag that labels the images, see `plr_edge.stream.bag_labels`.
        white_level: value that is white in images of more than 8 bits. None finds it, see
            `plr_edge.stream.pixels`.

    Raises:
        StreamError: there is no such source, or it has no frame.
        MissingExtraError: the source needs an optional library.
    """
    _check_options(split, limit_per_class, order)
    pixels = PixelRange(white_level)
    path = None if str(spec) == "-" else _existing(spec)
    if path is None:
        from plr_edge.stream.files import open_lines

        _refuse_held_out(spec, split)
        stream = open_lines(sys.stdin if stdin is None else stdin, strict, limit_per_class)
    elif is_bag(path):
        _refuse_held_out(spec, split)
        stream = open_bag(path, strict, limit_per_class, topic=topic, labels=labels)
    else:
        stream = _open_path(path, split, strict, limit_per_class, order)
    if (topic or labels) and not (path and is_bag(path)):
        raise StreamError(f"--topic and --labels are for ROS bags; {one_line(spec)} is not one")
    stream.pixels = pixels
    return _at_film_rate(stream) if str(spec) == "demo" else stream


def _open_path(
    path: Path, split: str, strict: bool, limit_per_class: int | None, order: str
) -> Stream:
    """Open a folder, or a file that does not hold a recording."""
    from plr_edge.stream import archive, files, folder, formats, listed, video

    if path.is_dir():
        return folder.open_folder(path, strict, limit_per_class, order, split=split)
    if path.is_file() and archive.is_archive(path):
        return archive.open_archive(path, strict, limit_per_class, order, split=split)
    _refuse_held_out(path, split)
    suffix = path.suffix.lower() if path.is_file() else ""
    if suffix == ".csv":
        return listed.open_csv(path, strict, limit_per_class, order)
    if suffix == ".txt":
        return listed.open_txt(path, strict, limit_per_class)
    if suffix in video.VIDEO_SUFFIXES:
        return video.open_video(path, strict, limit_per_class)
    if formats.is_image_name(path.name):
        return files.finite([files.file_entry(path, None)], strict, limit_per_class)
    raise StreamError(f"{one_line(path)} is not a stream; a stream is {_SOURCES}")


def _at_film_rate(stream: Stream) -> Stream:
    """Replace the files' times, which say when the package was installed."""
    entries = [replace(e, stamp_ns=i * _FILM_NS) for i, e in enumerate(stream.entries)]
    return replace(stream, entries=entries, notes=[])


def _refuse_held_out(spec: str | Path, split: str) -> None:
    from plr_edge.stream.layout import no_split

    if split in ("val", "test"):
        raise no_split(str(spec), split)


def _check_options(split: str, limit_per_class: int | None, order: str) -> None:
    from plr_edge.stream.files import ORDERS
    from plr_edge.stream.layout import SPLITS

    for name, value, known in (("split", split, SPLITS), ("order", order, ORDERS)):
        if value not in known:
            raise StreamError(f"{name} is {value[:40]!r}; it must be one of {', '.join(known)}")
    if limit_per_class is not None and limit_per_class < 1:
        raise StreamError(f"limit_per_class is {limit_per_class}; it must be at least 1")


def _existing(spec: str | Path) -> Path:
    if str(spec) == "demo":
        from plr_edge.assets import FRUITS

        return FRUITS
    if not str(spec):
        raise StreamError(f"the name of the stream is empty; a stream is {_SOURCES}")
    path = Path(spec)
    try:
        if path.exists() and _is_pack(path):
            raise StreamError(
                f"{one_line(path)} is an image pack (.npz), which only the benchmarks read; in a "
                "checkout, `python -m benchmarks unpack` makes a folder of it"
            )
        if path.exists():
            return path
    except (OSError, ValueError):  # a name that is too long or not allowed
        pass
    raise StreamError(f"{one_line(path)} does not exist; a stream is {_SOURCES}")


def _is_pack(path: Path) -> bool:
    from plr_edge.stream.folder import has_image

    if not path.is_dir():
        return path.suffix == ".npz"
    return any(path.glob("*.npz")) and not has_image(path)
