"""Which files are images, by name and by their first bytes. Reads no file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tif", ".tiff", ".tga", ".jp2", ".j2k", ".jpx", ".qoi",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".heics", ".ico", ".pcx", ".sgi", ".dds",
}  # fmt: skip
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
HEAD_BYTES = 16
# pictures that nothing here can decode
_OTHER_PICTURES = {
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".raw", ".svg", ".psd",
    ".exr", ".hdr", ".jxl", ".pdf", ".dcm", ".eps", ".xcf",
}  # fmt: skip
_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found",
           "system volume information", "icon\r"}  # fmt: skip
_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")


def is_system_file(name: str) -> bool:
    """Whether an operating system left a file or folder, so that nobody misses it."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like that of an image, in small or capital letters."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def is_image_head(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file are those of an image without a usual suffix."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    return head.startswith(_HEADS) or heif_brand(head) != ""


def heif_brand(head: bytes) -> str:
    """Return `heic` or `avif` for the first bytes of such a file. Empty for any other."""
    if head[4:8] != b"ftyp":
        return ""
    brand = head[8:12]
    if brand in (b"avif", b"avis"):
        return "avif"
    known = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
    return "heic" if brand in known else ""


def counted(names: Iterable[str]) -> str:
    """Count files by suffix, e.g. `60 .xml, 1 without a suffix`. Capitals count as small."""
    counts = Counter(PurePath(name).suffix.lower() or "without a suffix" for name in names)
    shown = [f"{n} {suffix}" for suffix, n in counts.most_common(6)]
    n_more = sum(counts.values()) - sum(n for _, n in counts.most_common(6))
    return ", ".join(shown) + (f", {n_more} others" if n_more else "")


def advice(names: Iterable[str]) -> str:
    """Say what to do about files that were not read. Empty if they are not pictures."""
    pictures = {s for name in names if (s := PurePath(name).suffix.lower()) in _OTHER_PICTURES}
    return f"; convert {' '.join(sorted(pictures))} to JPEG or PNG" if pictures else ""
