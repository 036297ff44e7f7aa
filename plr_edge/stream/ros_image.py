"""Converts sensor_msgs Image and CompressedImage to (H, W, 3) uint8 RGB. Imports no ROS.

Accepts any object with the fields of the message, whether `rosbags` or rclpy made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.base import one_line
from plr_edge.stream.decode import decode_values
from plr_edge.stream.pixels import PixelRange

_Convert = Callable[[np.ndarray], np.ndarray]
_VIDEO_CODECS = ("h264", "h265", "hevc", "av1", "vp8", "vp9", "mpeg4")
# BT.601 with ranges 16..235 and 16..240, in 1/65536, as V4L2 cameras send and OpenCV assumes
_Y, _RV, _GV, _GU, _BU = 76309, 104597, 53279, 25675, 132201


@dataclass(frozen=True)
class _Encoding:
    """Layout of a pixel.

    Attributes:
        channels: channels per pixel.
        convert: converts (H, W, channels) to RGB.
        bits: bits per channel, 8 or 16.
        least: smallest width and height. The width is a multiple of it.
    """

    channels: int
    convert: _Convert
    bits: int = 8
    least: int = 1


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :3]


def _bgr(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 2::-1]


def _mono(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels, 3, axis=2)


def _yuv(luma_at: int) -> _Convert:
    """Convert two bytes per pixel: luma at `luma_at`, and U and V in turns at the other."""

    def convert(pixels: np.ndarray) -> np.ndarray:
        luma = np.maximum(pixels[..., luma_at].astype(np.int32) - 16, 0) * _Y  # (H, W)
        chroma = pixels[..., 1 - luma_at].astype(np.int32) - 128
        u, v = (np.repeat(chroma[:, at::2], 2, axis=1) for at in (0, 1))
        rgb = np.stack((luma + _RV * v, luma - _GV * v - _GU * u, luma + _BU * u), axis=2)
        return ((rgb + 32768) >> 16).clip(0, 255).astype(np.uint8)

    return convert


def _bayer(pattern: str) -> _Convert:
    """Demosaic bilinearly. `pattern` is the colours of the first two pixels of rows 0 and 1."""

    def convert(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        # a reflected border keeps the pattern's parity
        wide = np.pad(pixels[..., 0].astype(np.uint32), 1, mode="reflect")

        def shifted(down: int, right: int) -> np.ndarray:
            return wide[1 + down : 1 + down + height, 1 + right : 1 + right + width]

        sideways, upright = shifted(0, -1) + shifted(0, 1), shifted(-1, 0) + shifted(1, 0)
        corners = shifted(-1, -1) + shifted(-1, 1) + shifted(1, -1) + shifted(1, 1)
        made = {
            "own": shifted(0, 0), "beside": (sideways + 1) // 2, "above": (upright + 1) // 2,
            "cross": (sideways + upright + 2) // 4, "corner": (corners + 2) // 4,
        }  # fmt: skip
        rgb = np.empty((height, width, 3), pixels.dtype)
        for place, own in enumerate(pattern):
            at = (slice(place // 2, None, 2), slice(place % 2, None, 2))
            beside = pattern[place ^ 1]  # the other colour of this row
            for channel, colour in enumerate("rgb"):
                if colour == own:
                    source = "own"
                elif colour == "g":
                    source = "cross"
                elif own == "g":
                    source = "beside" if colour == beside else "above"
                else:
                    source = "corner"
                rgb[at][..., channel] = made[source][at]
        return rgb

    return convert


def _encodings() -> dict[str, _Encoding]:
    """Return encodings by their sensor_msgs name. 8UC1 and its like are as in cv_bridge."""
    found = {
        "8UC1": _Encoding(1, _mono), "8UC3": _Encoding(3, _bgr), "8UC4": _Encoding(4, _bgr),
        "16UC1": _Encoding(1, _mono, 16), "16UC3": _Encoding(3, _bgr, 16),
        "16UC4": _Encoding(4, _bgr, 16),
    }  # fmt: skip
    for bits in (8, 16):
        found[f"mono{bits}"] = _Encoding(1, _mono, bits)
        for name, channels, convert in (("rgb", 3, _rgb), ("bgr", 3, _bgr)):
            found[f"{name}{bits}"] = _Encoding(channels, convert, bits)
            found[f"{name}a{bits}"] = _Encoding(channels + 1, convert, bits)
        for pattern in ("rggb", "bggr", "gbrg", "grbg"):
            found[f"bayer_{pattern}{bits}"] = _Encoding(1, _bayer(pattern), bits, least=2)
    for name, luma_at in (("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)):
        found[name] = _Encoding(2, _yuv(luma_at), least=2)
    return found


ENCODINGS = _encodings()


def image_of(message: Any, source: str, pixels: PixelRange | None = None) -> np.ndarray:
    """Convert a ROS message to an image.

    Args:
        message: object with the fields of sensor_msgs/Image (`encoding`, `height`, `width`,
            `step`, `is_bigendian`, `data`) or of sensor_msgs/CompressedImage (`format`, `data`).
        source: name of the image, for error messages.
        pixels: white level of more than 8 bits. None finds it from this image alone.

    Returns:
        (H, W, 3) uint8 RGB, a contiguous copy.

    Raises:
        StreamError: the encoding is unknown, bytes are missing, or the size is not allowed.
    """
    return (pixels or PixelRange()).to_rgb(values_of(message, source), source)


def values_of(message: Any, source: str) -> np.ndarray:
    """Convert as `image_of`, but leave more than 8 bits as they are.

    Returns:
        (H, W, 3) uint8 RGB, or uint16 for `PixelRange.to_rgb`; a contiguous copy.

    Raises:
        StreamError: as `image_of`.
    """
    data = np.frombuffer(message.data, np.uint8)
    if hasattr(message, "format"):
        return _decompressed(str(message.format), data.tobytes(), source)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise StreamError(
            f"{one_line(source)} has the encoding {one_line(message.encoding, 40)!r}; "
            f"supported are {', '.join(ENCODINGS)}"
        )
    pixels = _pixels(message, encoding, data, source)
    return np.array(encoding.convert(pixels), order="C")  # a copy: the memory is the message's


def _pixels(message: Any, encoding: _Encoding, data: np.ndarray, source: str) -> np.ndarray:
    """Return the pixels, (H, W, channels) uint8 or uint16, without padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    shown = f"{one_line(source)} ({width} x {height} {message.encoding})"
    row_bytes = width * encoding.channels * encoding.bits // 8
    if min(height, width) < encoding.least or width % encoding.least:
        raise StreamError(f"{shown} is not an image; check what records it")
    if step < row_bytes:
        raise StreamError(f"{shown} has a step of {step} bytes; a row needs {row_bytes}")
    needed = step * (height - 1) + row_bytes
    if len(data) < needed:
        raise StreamError(f"{shown} has {len(data)} bytes of {needed}; record it again")
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1))
    dtype = np.dtype(np.uint8 if encoding.bits == 8 else ">u2" if message.is_bigendian else "<u2")
    pixels = np.ascontiguousarray(rows).view(dtype).reshape(height, width, encoding.channels)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def _decompressed(form: str, data: bytes, source: str) -> np.ndarray:
    if "compressedDepth" in form:
        raise StreamError(
            f"{one_line(source)} is a depth image ({one_line(form, 40)!r}); choose a topic of "
            "colour or grey images"
        )
    if any(codec in form.lower() for codec in _VIDEO_CODECS):
        raise StreamError(
            f"{one_line(source)} is a packet of a video ({one_line(form, 40)!r}), not an image; "
            "record `raw` or `compressed` images, or republish it with `ros2 run "
            "image_transport republish`"
        )
    return decode_values(data, source)
