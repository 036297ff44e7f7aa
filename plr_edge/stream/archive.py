"""Folders of images in a .zip or .tar file. Nothing is written to disk by its name."""

from __future__ import annotations

import lzma
import posixpath
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, Stream, one_line
from plr_edge.stream.content import digest_of_bytes
from plr_edge.stream.decode import decode_values
from plr_edge.stream.folder import open_tree
from plr_edge.stream.formats import (
    ARCHIVE_SUFFIXES,
    HEAD_BYTES,
    is_image_head,
    is_image_name,
    is_system_file,
)
from plr_edge.stream.layout import File, Tree

_MAX_MEMBER_BYTES = 512 << 20
_ENCRYPTED, _UTF_8 = 0x1, 0x800  # flags of a member of a .zip
# exceptions that the readers raise on damaged archives, as observed
_DAMAGE = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, tarfile.TarError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a path ends like an archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def open_archive(
    path: Path,
    strict: bool,
    limit_per_class: int | None = None,
    order: str = "given",
    *,
    split: str = "train",
) -> Stream:
    """Open a .zip or .tar file of a folder that `open_folder` opens.

    It may contain the folder, or what the folder contains. A compressed .tar is unpacked to an
    unnamed temporary file, because images are read in another order than they are stored in.

    Raises:
        StreamError: the file is damaged or encrypted, or contains no image.
    """
    tree, notes = Tree(str(path)), list[str]()
    with _readable(path):
        members = _zip(path, notes) if path.suffix.lower() == ".zip" else _tar(path, notes)
        for member in _last_of_each(members, notes):
            member.add_to(tree)
    stem = path.name[: path.name.lower().rindex(next(_endings(path)))]
    tree = _unwrapped(tree, stem)
    if any(file.parts == ("labels.csv",) for file in tree.files):
        raise StreamError(
            f"{one_line(path)} contains labels.csv, which is read from a folder only; unpack it"
        )
    stream = open_tree(tree, strict, limit_per_class, order, split)
    stream.notes += notes
    return stream


class _Member:
    """A file or folder of an archive."""

    def __init__(
        self, source: str, name: str, n_bytes: int, stamp_ns: int, read: Callable[[int], bytes]
    ) -> None:
        """Describe a member. `read` returns its first bytes; `n_bytes` is -1 for a folder."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        self.parts = tuple(part for part in parts if part not in ("/", "..", "."))
        self.name, self.source = name, f"{source}/{'/'.join(self.parts)}"
        self.n_bytes, self.stamp_ns, self.read = n_bytes, stamp_ns, read

    def add_to(self, tree: Tree) -> None:
        """Add it to a tree, unless an operating system left it."""
        if not self.parts or any(map(is_system_file, self.parts)):
            hidden = any(part.startswith(".") for part in self.parts[:-1])
            if hidden and is_image_name(self.parts[-1]) and not is_system_file(self.parts[-1]):
                tree.hidden["/".join(self.parts[:-1])] += 1
            return
        tree.folders.update(self.parts[:n] for n in range(1, len(self.parts)))
        if self.n_bytes < 0:
            tree.folders.add(self.parts)
            return
        name = self.parts[-1]
        is_image = is_image_name(name) or (not Path(name).suffix and self._is_image())
        tree.files.append(File(self.parts, is_image, self._entry))

    def _is_image(self) -> bool:
        try:
            return is_image_head(self.read(HEAD_BYTES))
        except StreamError:  # a link to a folder or to nothing: it is counted among other files
            return False

    def _entry(self, label: str | None) -> Entry:
        return Entry(self._load, label, self.stamp_ns, self.source, digest=self._digest)

    def _digest(self) -> bytes:
        return digest_of_bytes(self._data())

    def _load(self) -> np.ndarray:
        return decode_values(self._data(), self.source)

    def _data(self) -> bytes:
        """Return the whole file."""
        if self.n_bytes > _MAX_MEMBER_BYTES:
            raise StreamError(
                f"{one_line(self.source)} has {self.n_bytes >> 20} MB; at most "
                f"{_MAX_MEMBER_BYTES >> 20} are read"
            )
        try:
            return self.read(self.n_bytes)
        except NotImplementedError as error:  # e.g. Deflate64 of Windows
            raise StreamError(
                f"{one_line(self.source)} cannot be unpacked here ({one_line(error, 80)}); unpack "
                "the archive and give the folder"
            ) from None
        except _DAMAGE as error:
            reason = one_line(error, 80)
            raise StreamError(
                f"{one_line(self.source)} is damaged ({reason}); copy the archive again"
            ) from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = one_line(error, 120) or type(error).__name__
        raise StreamError(
            f"{one_line(path)} is a damaged or unfinished archive ({reason}); copy it again"
        ) from None


def _last_of_each(members: Iterable[_Member], notes: list[str]) -> list[_Member]:
    """Return the members; of those with one name the last, as unpacking does."""
    everything = list(members)
    found = {member.name: member for member in everything}
    files = [member.name for member in everything if member.n_bytes >= 0]
    if n_replaced := len(files) - len(set(files)):
        notes.append(
            f"left out {n_replaced} files of the archive that hold an older version of another one "
            "with the same name, as unpacking does"
        )
    return list(found.values())


def _zip(path: Path, notes: list[str]) -> Iterator[_Member]:
    archive = zipfile.ZipFile(path)

    def read(info: zipfile.ZipInfo, n_bytes: int) -> bytes:
        with archive.open(info) as file:
            return file.read(n_bytes)

    doubtful = list[str]()
    for info in archive.infolist():
        if info.flag_bits & _ENCRYPTED:
            raise StreamError(f"{one_line(path)} is encrypted; unpack it with its password")
        try:
            at = datetime(*info.date_time, tzinfo=timezone.utc).timestamp()
        except ValueError:  # e.g. month 0
            at = 0.0
        n_bytes, (name, is_known) = -1 if info.is_dir() else info.file_size, _zip_name(info)
        if not is_known:
            doubtful.append(name)
        yield _Member(str(path), name, n_bytes, int(at) * 10**9, partial(read, info))
    if doubtful:
        notes.append(
            f"{len(doubtful)} names in {one_line(path)} do not state their encoding, which may "
            f"be another than the one taken here, e.g. {one_line(doubtful[0], 80)}; if it is, "
            "unpack the archive with a program that knows it and give the folder"
        )


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, bool]:
    """Return the name of a member, and whether its encoding is known.

    Some programs write UTF-8 without saying so.
    """
    if info.flag_bits & _UTF_8:
        return info.filename, True
    try:
        return info.filename.encode("cp437").decode("utf-8"), True
    except UnicodeError:
        return info.filename, False


def _tar(path: Path, notes: list[str]) -> Iterator[_Member]:
    file = _plain(path)
    archive = tarfile.open(fileobj=file, mode="r:")

    def read(info: tarfile.TarInfo, n_bytes: int) -> bytes:
        member = archive.extractfile(info)  # follows links inside the archive
        return member.read(n_bytes) if member is not None else b""

    infos = archive.getmembers()
    notes += _end_of(path, file, archive.offset)
    sizes = {info.name: info.size for info in infos if info.isfile()}
    for info in infos:
        target = info.linkname
        if info.issym():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), target))
        own: Callable[[int], bytes] = partial(read, info)
        size = -1 if info.isdir() else info.size
        if not info.isdir() and not info.isfile():
            size = sizes.get(target, 0)
            if target not in sizes:
                own = partial(_refuse_link, f"{path}/{info.name}", info.linkname)
        yield _Member(str(path), info.name, size, int(info.mtime * 1e9), own)


def _refuse_link(source: str, target: str, _: int) -> bytes:
    what = (
        f"a link to {one_line(target, 80)!r}, which is not a file of the archive; pack it "
        "with `tar --dereference`"
    )
    raise StreamError(f"cannot read {one_line(source)}: it is {what if target else 'not a file'}")


def _end_of(path: Path, file: IO[bytes], offset: int) -> list[str]:
    """Look at the end of a .tar, where reading stopped without saying why.

    Returns:
        What may be missing, a sentence each.

    Raises:
        ReadError: what stands there is neither the end nor a member.
    """
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        return [f"{one_line(path)} has no mark at its end, so that it may have been cut off"]
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise tarfile.ReadError(f"no member begins at byte {offset}")
    while block := file.read(1 << 20):
        if any(block):
            return [
                f"{one_line(path)} holds more behind its end, e.g. a second .tar, which was not "
                "read; unpack it with `tar --ignore-zeros` and give the folder"
            ]
    return []


def _plain(path: Path) -> IO[bytes]:
    """Open a .tar without its compression."""
    import bz2
    import gzip

    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip, b"BZ": bz2, b"\xfd7": lzma}
    file = open(path, "rb")
    head = file.read(2)
    file.seek(0)
    if head not in openers:
        return file
    file.close()
    plain = tempfile.TemporaryFile()
    with openers[head].open(path) as packed:
        shutil.copyfileobj(packed, plain, 1 << 20)
    plain.seek(0)
    return plain


def _endings(path: Path) -> Iterator[str]:
    name = path.name.lower()
    return (s for s in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True) if name.endswith(s))


def _unwrapped(tree: Tree, stem: str) -> Tree:
    """Return the content of the only folder of an archive, unless that folder is a class itself.

    It is a class if it contains images directly, and is not called like the archive.
    """
    tops = {file.parts[0] for file in tree.files} | {parts[0] for parts in tree.folders}
    if len(tops) != 1 or not all(len(file.parts) > 1 for file in tree.files):
        return tree
    (top,) = tops
    direct = any(file.is_image and len(file.parts) == 2 for file in tree.files)
    if top.lower() == stem.lower() or not direct:
        return tree.below(top)
    return tree
