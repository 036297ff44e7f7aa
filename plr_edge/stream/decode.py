"""Decodes the bytes of an image file to (H, W, 3) uint8 RGB. Opens no file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from plr_edge.errors import StreamError
from plr_edge.stream.base import one_line

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# exceptions that Pillow's readers raise on damaged files, as observed
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError,
    OverflowError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip


def decode_image(data: bytes, source: str) -> np.ndarray:
    """Decode an image file, and turn the image upright.

    Args:
        data: bytes of the file.
        source: name of the file, for messages.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        StreamError: the file is empty, damaged, too large or not an image.
    """
    name = one_line(source)
    if not data:
        raise StreamError(f"{name} is empty (0 bytes); record it again or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. truncated EXIF: the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return _rgb(_upright(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise StreamError(f"{name} has too many pixels; scale it down") from None
    except UnidentifiedImageError:
        raise StreamError(f"{name} is not an image of a known format; record it again") from None
    except _DAMAGE as error:
        reason = one_line(error, 120)
        raise StreamError(f"{name} is damaged ({reason}); record it again") from None


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # before EXIF, so that a truncated file fails here
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:  # unreadable EXIF: leave the image as it is
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
