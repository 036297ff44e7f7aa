"""What identifies a frame: a digest of its image, wherever it lies and whatever it is called.

An image file is identified by its bytes, a frame of a film or a bag by its pixels. Time stamps and
names do not count, so that a file that was moved is the same frame, and another image that took its
place is not.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import Entry, one_line

DIGEST_BYTES = 16  # two of 100,000 frames meet by chance once in 10^28 states
_BANDS = 64  # a CRC-32 each: three times as fast as a cryptographic digest of all pixels


def digest_of_bytes(data: bytes) -> bytes:
    """Return the digest of an image file: 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_of_file(path: Path) -> bytes:
    """Return the digest of an image file.

    Raises:
        StreamError: it cannot be read.
    """
    try:
        if not path.is_file():  # reading a pipe or a device would never end
            raise StreamError(f"cannot read {one_line(path)}: it is not a file")
        return digest_of_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise StreamError(f"cannot read {one_line(path)}: {reason}") from None


def digest_of_image(image: np.ndarray) -> bytes:
    """Return the digest of decoded pixels: 16 bytes.

    Args:
        image: (H, W, 3) uint8.
    """
    pixels = np.ascontiguousarray(image)
    rows = -(-len(pixels) // _BANDS) or 1
    sums = [zlib.crc32(pixels[at : at + rows].data) for at in range(0, len(pixels), rows)]
    return digest_of_bytes(repr((pixels.shape, sums)).encode())


def identified(entry: Entry) -> Entry:
    """Return an entry whose content is known. It is decoded only if that is needed for it.

    Raises:
        StreamError: the image cannot be read.
    """
    if entry.content:
        return entry
    if entry.digest is not None:
        return replace(entry, content=entry.digest())
    image = entry.load()
    return replace(entry, content=digest_of_image(image), load=_again(image))


def _again(image: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: image
