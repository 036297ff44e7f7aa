"""Decodes the bytes of an image file. Opens no file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from plr_edge.errors import MissingExtraError, StreamError, load
from plr_edge.stream.deep import deep_values, tiles_of
from plr_edge.stream.formats import HEAD_BYTES, heif_brand
from plr_edge.stream.messages import one_line
from plr_edge.stream.pixels import PixelRange

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
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError,
    OverflowError, NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
# Larger images are reduced to a half, a quarter or an eighth of their sides. A JPEG is reduced
# while it is decoded; any other image needs its whole size in memory first.
_REDUCED_PIXELS, _KEPT_PIXELS = 89_000_000, 32_000_000
_MAX_PIXELS, _MAX_JPEG_PIXELS = 128_000_000, 256_000_000


def decode_image(data: bytes, source: str, pixels: PixelRange | None = None) -> np.ndarray:
    """Decode an image file, and turn the image upright.

    Args:
        data: bytes of the file.
        source: name of the file, for messages.
        pixels: white level of images of more than 8 bits. None finds it from this image alone.

    Returns:
        (H, W, 3) uint8 RGB. Images of more than 89 megapixels are reduced.

    Raises:
        StreamError: the file is empty, damaged, too large or not an image. Or it is HEIC, and
            `pillow-heif` is not installed.
    """
    return (pixels or PixelRange()).to_rgb(decode_values(data, source), source)


def decode_values(data: bytes, source: str) -> np.ndarray:
    """Decode as `decode_image`, but leave more than 8 bits as they are.

    Returns:
        (H, W, 3) uint8 RGB. Or, if the file has more than 8 bits and does not say which value is
        white, its values, (H, W) or (H, W, 3), for `PixelRange.to_rgb`.

    Raises:
        StreamError: as `decode_image`.
    """
    name = one_line(source)
    if not data:
        raise StreamError(f"{name} is empty (0 bytes); record it again or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. truncated EXIF: the pixels decide
            with _opened(data, name) as image:
                factor, tiles = _reduce_by(image, name), tiles_of(image)
                turn = turn_of(image)
                values = deep_values(image, data, tiles)
                if values is None:
                    return np.asarray(_rgb(turned(_reduced(image, factor), turn)))
                return _upright_values(values[::factor, ::factor], turn)
    except (Image.DecompressionBombError, MemoryError):
        raise StreamError(f"{name} has too many pixels; scale it down") from None
    except UnidentifiedImageError:
        raise StreamError(f"{name} {_what_it_is(data)}") from None
    except StreamError:
        raise
    except DAMAGE as error:
        reason = one_line(error, 120)
        raise StreamError(f"{name} is damaged ({reason}); record it again") from None


def _opened(data: bytes, name: str) -> Any:
    """Open an image without decoding it."""
    file = io.BytesIO(data)
    if data.startswith(b"\xff\xd8\xff"):  # `Image.open` refuses what a JPEG can be reduced from
        return JpegImagePlugin.JpegImageFile(file)
    if heif_brand(data[:HEAD_BYTES]) == "heic":
        try:
            load("pillow_heif", "heif", why=f"reading {name}").register_heif_opener()
        except MissingExtraError as error:  # one image of many: it is skipped like a damaged one
            raise StreamError(str(error)) from None
    return Image.open(file)


def _reduce_by(image: Image.Image, name: str) -> int:
    """Return the factor to reduce an image by; a JPEG will be decoded at its reduced size."""
    n_pixels = image.width * image.height
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile)
    most = _MAX_JPEG_PIXELS if is_jpeg else _MAX_PIXELS
    if n_pixels > most:
        raise StreamError(
            f"{name} has too many pixels, {n_pixels // 10**6} million; at most {most // 10**6} "
            "million are read. Scale it down"
        )
    if n_pixels <= _REDUCED_PIXELS:
        return 1
    factor = next(f for f in (2, 4, 8) if n_pixels / f**2 <= _KEPT_PIXELS or f == 8)
    if not is_jpeg:
        return factor
    image.draft(None, (image.width // factor, image.height // factor))
    return 1


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    image.load()
    if factor == 1:
        return image
    return (image.convert("RGB") if image.mode in ("1", "P", "PA") else image).reduce(factor)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    image.load()  # before EXIF, so that a truncated file fails here
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except DAMAGE:  # unreadable EXIF: leave the image as it is
        return None


def turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """Return an image turned upright."""
    return image if turn is None else image.transpose(turn)


def _upright_values(values: np.ndarray, turn: Image.Transpose | None) -> np.ndarray:
    if turn is None:
        return values
    if turn in (Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE):
        values = values.swapaxes(0, 1)
        return values[::-1, ::-1] if turn == Image.Transpose.TRANSVERSE else values
    if turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270):
        quarters = {Image.Transpose.ROTATE_90: 1, Image.Transpose.ROTATE_180: 2}.get(turn, 3)
        return np.rot90(values, quarters)
    return values[:, ::-1] if turn == Image.Transpose.FLIP_LEFT_RIGHT else values[::-1]


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _what_it_is(data: bytes) -> str:
    """Say what a file is that is not an image, and what to do."""
    head = data[:256].lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not an image; run `git lfs pull`"
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is a text file (HTML or XML), not an image; download it again"
    if heif_brand(data[:HEAD_BYTES]) == "avif":
        return "is AVIF, which this version of Pillow cannot read; install Pillow 11.3 or newer"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return (
            "is a TIFF of a kind that Pillow cannot read, e.g. floats in colour or raw data of a "
            "camera; save it with 8 or 16 bits per channel"
        )
    if heif_brand(data[:HEAD_BYTES]):
        return "is a damaged HEIC image; copy it again"
    if data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "is JPEG XL, which is not supported; convert it to JPEG or PNG"
    return "is not an image of a known format; record it again"
