"""Bytes of an image file -> (H, W, 3) uint8 RGB, or one clear reason why not. Opens no file."""

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
# what Pillow's readers have been seen to raise on damaged files
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError,
    OverflowError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip


def decode_image(data: bytes, source: str) -> np.ndarray:
    """Decode an image file, upright.

    Args:
        data: its bytes.
        source: what to call it in a message.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        StreamError: it is empty, damaged, too large or no image.
    """
    name = one_line(source)
    if not data:
        raise StreamError(f"{name} is empty (0 bytes); record it again or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # truncated EXIF and the like: the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                return _rgb(_upright(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise StreamError(f"{name} has too many pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise StreamError(f"{name} is no image that we can read; record it again") from None
    except _DAMAGE as error:
        reason = one_line(error, 120)
        raise StreamError(f"{name} is no whole image ({reason}); record it again") from None


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # before EXIF: a truncated file shall fail here
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:  # EXIF that cannot be read turns nothing
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
