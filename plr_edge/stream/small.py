"""Decodes images that strangers sent: checked by their header, and never held at full size twice.

What it costs is bounded before a pixel is decoded. `decode` has no such bounds, because it reads
files that the user names.
"""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from plr_edge.errors import StreamError
from plr_edge.stream.decode import DAMAGE, decode_image, turn_of, turned
from plr_edge.stream.messages import one_line
from plr_edge.stream.pixels import PixelRange

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# what decoding holds at once stays below 30 MB
MAX_PIXELS = 3_200_000  # decoded at full size: 4 bytes a pixel
MAX_HELD_PIXELS = 2_100_000  # of a JPEG whose coefficients are held, 9 bytes a pixel
MAX_LAYERED_PIXELS = 1_050_000  # of a WebP or GIF, whose decoder has two canvases beside
MAX_JPEG_PIXELS = 26_000_000  # in one scan, reduced while it is decoded
KEPT_PIXELS = 1_050_000  # 1024 x 1024; more is reduced
MAX_DEEP_PIXELS = 640 * 480  # of 16 bits a channel in colour, whose white level is looked for
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_LIMITS = {"WEBP": MAX_LAYERED_PIXELS, "GIF": MAX_LAYERED_PIXELS}
_LARGE = threading.Lock()  # held while a large image is decoded, by whichever thread
_REDUCED_COST = 3  # a JPEG that is reduced while it is decoded costs so much less


class SmallImage:
    """An image whose header was read, and whose pixels were not.

    Attributes:
        n_pixels: its number of pixels.
    """

    def __init__(self, data: bytes, source: str = "image") -> None:
        """Read the header.

        Args:
            data: bytes of the file.
            source: name of the file, for messages.

        Raises:
            StreamError: it has another format than `FORMATS`, is damaged, or has too many pixels.
        """
        self._name, self._data = one_line(source), data
        with self._opened() as image:
            self.n_pixels = image.width * image.height
            kind, mode = image.format, image.mode
            self._deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        self._one_scan = kind in ("JPEG", "MPO") and _in_one_scan(data)
        held = MAX_HELD_PIXELS if kind in ("JPEG", "MPO") else MAX_PIXELS
        most = MAX_JPEG_PIXELS if self._one_scan else _LIMITS.get(kind, held)
        if self.n_pixels > most:
            what = "JPEG in several scans" if held == MAX_HELD_PIXELS else kind
            raise StreamError(
                f"{self._name} has too many pixels, {self.n_pixels / 1e6:.1f} million; of a {what} "
                f"at most {most / 1e6:.1f} million are read, of a baseline JPEG "
                f"{MAX_JPEG_PIXELS / 1e6:.0f}. Scale it down"
            )
        if self._deep and mode[:3] == "RGB" and self.n_pixels > MAX_DEEP_PIXELS:
            raise StreamError(
                f"{self._name} has 16 bits per colour and {self.n_pixels / 1e6:.1f} million "
                f"pixels; at most {MAX_DEEP_PIXELS / 1e6:.1f} million are read, so convert it to 8 "
                "bits"
            )

    @property
    def cost_pixels(self) -> float:
        """What decoding costs, in pixels that are decoded at full size."""
        reduced = self._one_scan and self.n_pixels > KEPT_PIXELS
        return self.n_pixels / _REDUCED_COST if reduced else self.n_pixels

    def decode(self) -> np.ndarray:
        """Decode it at no more than about a megapixel, and turn it upright.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            StreamError: the file is damaged.
        """
        if self._deep and self.n_pixels <= MAX_DEEP_PIXELS:
            return decode_image(self._data, self._name)
        with _LARGE if self.n_pixels > KEPT_PIXELS else nullcontext():
            return self._decoded()

    def _opened(self) -> Any:
        """Open the file, which decodes nothing. Its decoder may hold memory until it is closed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the limits here are lower than Pillow's
                return Image.open(io.BytesIO(self._data), formats=FORMATS)
        except (Image.DecompressionBombError, MemoryError):
            raise StreamError(f"{self._name} has too many pixels; scale it down") from None
        except (UnidentifiedImageError, *DAMAGE):
            known = ", ".join(FORMATS[:-1])
            raise StreamError(
                f"{self._name} is not {known} or {FORMATS[-1]}, or is damaged; convert it"
            ) from None

    def _decoded(self) -> np.ndarray:
        try:
            with warnings.catch_warnings(), self._opened() as image:
                warnings.simplefilter("ignore")  # e.g. truncated EXIF: the pixels decide
                if self._one_scan:
                    by = _factor(self.n_pixels, (1, 2, 4, 8))
                    image.draft("RGB", (image.width // by, image.height // by))
                image.load()
                turn = turn_of(image)
                factor = _factor(image.width * image.height, range(1, 100))
                if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                    values = np.asarray(image)[::factor, ::factor]
                    reduced = Image.fromarray(PixelRange().to_rgb(values, self._name))
                else:
                    reduced = _rgb(_reduced(image, factor))
                return np.asarray(turned(reduced, turn))
        except (Image.DecompressionBombError, MemoryError):
            raise StreamError(f"{self._name} has too many pixels; scale it down") from None
        except StreamError:
            raise
        except DAMAGE as error:
            reason = one_line(error, 120)
            raise StreamError(f"{self._name} is damaged ({reason}); record it again") from None


def _factor(n_pixels: int, factors: Any) -> int:
    """Return the first factor by which no more than `KEPT_PIXELS` are left."""
    for factor in factors:
        if n_pixels <= KEPT_PIXELS * factor**2:
            return int(factor)
    return int(factors[-1])


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    if factor == 1:
        return image
    return (_rgb(image) if image.mode in ("1", "P", "PA") else image).reduce(factor)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_one_scan(data: bytes) -> bool:
    """Return whether a JPEG can be decoded without its coefficients being held in memory.

    Progressive ones, and those with a scan for each component, need 2 to 6 bytes a pixel.
    """
    at, n_components = 2, 0
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAME_MARKERS:
            if marker not in (0xC0, 0xC1):  # baseline, extended sequential
                return False
            n_components = data[at + 9]
        elif marker == _SCAN:
            return n_components > 0 and data[at + 4] == n_components
        at += 2 + length
    return False
