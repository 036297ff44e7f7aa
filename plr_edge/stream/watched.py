"""A watched folder: images as they are written into it and into its folders.

`watchfiles` (extra `watch`) reports changes as the kernel does. Without it, and also beside it for
network disks that report nothing, the folder is listed again and again.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plr_edge.errors import StreamError
from plr_edge.stream.base import Frame, one_line
from plr_edge.stream.decode import decode_image
from plr_edge.stream.files import natural
from plr_edge.stream.formats import is_image_name, is_system_file
from plr_edge.stream.pixels import PixelRange

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.2
_LIST_EVERY_S = 2.0  # although nothing was reported
_WARN_AFTER_S = 10.0  # without a change of a file that cannot be read
_MAX_BYTES = 512 << 20
_MAX_DEPTH = 4  # of folders below the watched one

Version = tuple[int, int, int]  # size, time of modification in ns, inode


@dataclass
class _File:
    """What is known of a file.

    Attributes:
        version: how it looked last.
        since_s: since when it looks like that.
        taken: whether this version needs no more looking at.
        failure: why it could not be read. Empty if it was not tried.
    """

    version: Version
    since_s: float
    taken: bool = False
    failure: str = ""


class DriverCalls:
    """Notes, as a context manager, since when a call that may hang has not returned.

    Attributes:
        since_s: `time.monotonic` of the beginning of the call under way. None if there is none.
    """

    def __init__(self) -> None:
        """Start with no call under way."""
        self.since_s: float | None = None

    def __enter__(self) -> None:
        self.since_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.since_s = None


class WatchedFolder:
    """Takes each image of a folder once it no longer changes, and again when it was rewritten.

    Attributes:
        trouble: why the folder cannot be listed. Empty if it can.
        calls: says since when the file system has not returned.
        pixels: white level of images of more than 8 bits.
    """

    def __init__(self, path: Path) -> None:
        """Take the images that are there as known.

        Raises:
            StreamError: the folder cannot be listed.
        """
        self.path, self.trouble = path, ""
        self.calls = DriverCalls()
        self.pixels = PixelRange(log_level=logging.WARNING)
        self._files: dict[str, _File] = {}
        self._suffixes: set[str] = set()
        self._list()
        if self.trouble:
            raise StreamError(self.trouble, can_pass=True)
        for file in self._files.values():
            file.taken = True

    def frames(self, stop: threading.Event) -> Iterator[Frame | None]:
        """Yield images as they come, and None whenever `trouble` may have changed."""
        index = 0
        for _ in self._wake_ups(stop):
            with self.calls:
                self._list()
            yield None
            for name in sorted(self._settled(), key=_in_order):
                with self.calls:
                    frame = self._read(name, index)
                if frame is not None:
                    yield frame
                    index += 1

    def _wake_ups(self, stop: threading.Event) -> Iterator[None]:
        """Yield whenever the folder should be looked at."""
        changed = threading.Event()
        if importlib.util.find_spec("watchfiles") is not None:
            arguments = (self.path, changed, stop)
            threading.Thread(target=_report, args=arguments, name="watch", daemon=True).start()
            quiet_s = _LIST_EVERY_S
        else:
            quiet_s = _LOOK_EVERY_S
        while not stop.is_set():
            pending = any(not file.taken for file in self._files.values())
            deadline = time.monotonic() + (_LOOK_EVERY_S if pending else quiet_s)
            while not stop.wait(min(_LOOK_EVERY_S, max(deadline - time.monotonic(), 0.01))):
                if changed.is_set() or time.monotonic() >= deadline:
                    break
            changed.clear()
            if not stop.is_set():
                yield

    def _list(self) -> None:
        """Update what is known of the files."""
        now, seen = time.monotonic(), dict[str, Version]()
        try:
            for name, child in _children(self.path):
                if version := self._version(child):
                    seen[name] = version
        except OSError as error:
            self.trouble = f"cannot read {one_line(self.path)}: {error.strerror}"
            return
        self.trouble = ""
        self._files = {name: file for name, file in self._files.items() if name in seen}
        for name, version in seen.items():
            known = self._files.get(name)
            if known is None or known.version != version:
                self._files[name] = _File(version, now)

    def _version(self, child: os.DirEntry[str]) -> Version | None:
        """Return how a file looks. None for what is not an image file."""
        if is_system_file(child.name):
            return None
        try:
            status = child.stat()
        except OSError:  # it was just deleted, or is a link to nothing
            return None
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
            return None
        if not is_image_name(child.name):
            suffix = Path(child.name).suffix.lower()
            if suffix not in self._suffixes:
                self._suffixes.add(suffix)
                _log.warning("%s is not an image by its name", one_line(child.path))
            return None
        return status.st_size, status.st_mtime_ns, status.st_ino

    def _settled(self) -> list[str]:
        """Return the files that did not change for a moment and were not read as they are."""
        now = time.monotonic()
        return [
            name
            for name, file in self._files.items()
            if not file.taken and now - file.since_s >= _LOOK_EVERY_S
        ]

    def _read(self, name: str, index: int) -> Frame | None:
        """Read a file. If that fails, it is tried again until it stays as it is."""
        file, path = self._files[name], self.path / name
        waited_s = time.monotonic() - file.since_s
        if file.failure and waited_s < _WARN_AFTER_S:
            return None  # an upload may pause; the next change begins again
        try:
            image = decode_image(_bytes_of(path), name, self.pixels)
        except (OSError, StreamError) as error:
            file.failure = one_line(error)
            if waited_s >= _WARN_AFTER_S or file.version[0] > _MAX_BYTES:
                file.taken = True
                _log.warning("skipped until it changes: %s", file.failure)
            return None
        file.taken = True
        return Frame(image, None, time.time_ns(), name, index)


def _in_order(name: str) -> list[list[tuple[int, int | str]]]:
    """Return a sort key by folders, then by name, in which frame_2 comes before frame_10."""
    return [natural(Path(part)) for part in name.split("/")]


def _children(
    path: Path, below: str = "", depth: int = 0
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files of a folder and of the folders in it, with their path below it.

    Hidden folders and links to folders are left out.

    Raises:
        OSError: the watched folder itself cannot be listed.
    """
    try:
        with os.scandir(path / below) as children:
            found = list(children)
    except OSError:
        if depth:  # it was just deleted, or belongs to others
            return
        raise
    for child in found:
        if not child.is_dir(follow_symlinks=False):
            yield f"{below}{child.name}", child
        elif depth < _MAX_DEPTH and not child.name.startswith("."):
            yield from _children(path, f"{below}{child.name}/", depth + 1)


def _bytes_of(path: Path) -> bytes:
    """Read a regular file that may have been replaced by something else.

    Raises:
        OSError: it cannot be read.
        StreamError: it is not a regular file, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StreamError(f"{one_line(path)} is not a file")
        if status.st_size > _MAX_BYTES:
            raise StreamError(
                f"{one_line(path)} has {status.st_size >> 20} MB; at most {_MAX_BYTES >> 20} are "
                "read"
            )
        return file.read()


def _report(path: Path, changed: threading.Event, stop: threading.Event) -> None:
    """Set `changed` whenever the kernel reports a change in a folder."""
    watchfiles = importlib.import_module("watchfiles")
    while not stop.is_set():
        try:
            for _ in watchfiles.watch(path, stop_event=stop, recursive=True, debounce=50, step=20):
                changed.set()
        except (OSError, RuntimeError) as error:  # the folder is gone, or no more watches
            _log.info("%s is polled: %s", one_line(path), one_line(error, 80))
            stop.wait(_LIST_EVERY_S)
