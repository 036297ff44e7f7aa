"""Images of more than 8 bits, with all their bits, and what their files say about white."""

from __future__ import annotations

import io
import re
import struct
import sys
from typing import Any

import numpy as np
from PIL import Image

from plr_edge.stream.pixels import to_8_bits, white_level

_COLOUR = re.compile(r"(RGB|RGBA|RGBX);16([LBN])")
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_WHITE_TAGS = (50717, 281, 341)  # WhiteLevel, MaxSampleValue, SMaxSampleValue
_FULL = 65535.0


Tile = tuple[Any, ...]


def tiles_of(image: Image.Image) -> list[Tile]:
    """Return how the pixels of an image are stored. Ask before it is decoded."""
    return list(getattr(image, "tile", ()))


def deep_values(image: Image.Image, data: bytes, tiles: list[Tile]) -> np.ndarray | None:
    """Return the values of an image of more than 8 bits.

    Args:
        image: a decoded image.
        data: the file.
        tiles: from `tiles_of`.

    Returns:
        None for an image of 8 bits. (H, W) or (H, W, 3) uint8 if the file says which value is
        white. Otherwise whole numbers or floats.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.dtype.kind == "b":
            return None
        if values.dtype.byteorder == ">":
            values = values.astype(values.dtype.newbyteorder("="))
        white = _white_of(image, data, values)
        if _is_inverted(image):
            white = white or white_level(float(values.max(initial=0)), values.dtype.kind)
            whole = np.int64 if values.dtype.kind in "ui" else np.float64
            values = whole(white) - values.clip(0, white).astype(whole)
        return values if white is None else to_8_bits(values, white)
    colour = _colour(image, data, tiles)
    if colour is None:
        return None
    white = _white_of(image, data, colour)
    return colour if white is None else to_8_bits(colour, white)


def _colour(image: Image.Image, data: bytes, tiles: list[Tile]) -> np.ndarray | None:
    """Return colours of 16 bits, (H, W, 3) uint16, of which Pillow keeps only the upper 8."""
    names = {_raw_mode(tile) for tile in tiles}
    if image.format == "PPM" and image.mode == "RGB" and _ppm_max(data) > 255 and data[1:2] == b"6":
        shape, offset = (image.height, image.width, 3), tiles[0][2]
        return np.frombuffer(data, ">u2", int(np.prod(shape)), offset).reshape(shape).astype("u2")
    match = _COLOUR.fullmatch(names.pop()) if len(names) == 1 else None
    if not match:
        return None
    with Image.open(io.BytesIO(data)) as again:
        order = match[2] if match[2] != "N" else ("L" if sys.byteorder == "little" else "B")
        # read with the other byte order, the lower 8 bits are kept
        swapped = f"{match[1]};16{'B' if order == 'L' else 'L'}"
        again.tile = [_with_raw_mode(tile, swapped) for tile in again.tile]
        lower = np.asarray(again)[..., :3].astype(np.uint16)
    return np.asarray(image)[..., :3].astype(np.uint16) << 8 | lower


def _raw_mode(tile: Tile) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _with_raw_mode(tile: Tile, name: str) -> Any:
    arguments = tile[3]
    own = (name, *arguments[1:]) if isinstance(arguments, tuple) else name
    parts = (*tile[:3], own)
    return type(tile)(*parts) if hasattr(tile, "_fields") else parts


def _white_of(image: Image.Image, data: bytes, values: np.ndarray) -> float | None:
    """Return the white level that the file states. None if it states none that fits."""
    largest = float(values.max(initial=0))
    if image.format == "PNG":
        bits = _significant_bits(data)
        if not 8 < bits < 16:
            return None
        # the standard has values scaled to 16 bits; many cameras do not scale them
        return 2.0**bits - 1 if largest < 2**bits else _FULL
    if image.format == "PPM" and values.dtype.kind != "f":
        announced = _ppm_max(data)
        if announced >= _FULL:
            return None
        return _FULL if values.ndim == 2 else float(announced)  # Pillow scales grey values
    if image.format == "JPEG2000":
        return _FULL if 8 < _jpeg2000_bits(data) < 16 else None  # Pillow scales to 16 bits
    if image.format == "TIFF":
        stated = _tiff_white(image)
        if stated is not None and largest <= stated and stated not in (255.0, _FULL):
            return stated
    return None


def _significant_bits(data: bytes) -> int:
    """Return the bits that the chunk sBIT of a PNG states, 0 without one."""
    at = 8
    while at + 8 <= len(data):
        n_bytes, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"sBIT":
            return max(data[at + 8 : at + 8 + min(n_bytes, 3)], default=0)
        if kind == b"IDAT":
            return 0
        at += 12 + n_bytes
    return 0


def _ppm_max(data: bytes) -> int:
    """Return the largest value in the header of a PGM or PPM."""
    words = re.sub(rb"#[^\n]*", b"", data[:1024]).split(maxsplit=4)
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 65535


def _jpeg2000_bits(data: bytes) -> int:
    """Return the bits per channel of a JPEG 2000, 0 if they are not found."""
    at = data.find(b"\xff\x4f\xff\x51")  # start of code stream, then SIZ
    return (data[at + 42] & 0x7F) + 1 if at >= 0 and len(data) > at + 42 else 0


def _tiff_white(image: Image.Image) -> float | None:
    tags = getattr(image, "tag_v2", {})
    for tag in _WHITE_TAGS:
        value = tags.get(tag)
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, (int, float)) and first > 0:
            return float(first)
    return None


def _is_inverted(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return image.format == "TIFF" and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
