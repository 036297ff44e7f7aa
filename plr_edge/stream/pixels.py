"""Values of more than 8 bits, as 8 bits: which value is white. Knows no file format.

Cameras store 10, 12 or 14 bits in files of 16 bits, and floats may be 0..1 or 0..255. A file rarely
says which. So the white level is found from the largest value of a stream, stated, and can be set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np

from plr_edge.errors import StreamError
from plr_edge.stream.messages import one_line

_log = logging.getLogger(__name__)
_BITS = (8, 10, 12, 14, 16, 20, 24, 32)
_OVERSHOOT = 1.02  # filters and lossy compression exceed white a little
_HIGHLIGHTS = 8.0  # of floats whose white is 1; an image of 0..255 that is as dark shows nothing
_KINDS = {"u": "whole numbers", "i": "whole numbers", "f": "floats"}


class PixelRange:
    """Converts images to 8 bits with one white level for a whole stream.

    Attributes:
        notes: white levels that were found, a sentence each.
    """

    def __init__(self, white: float | None = None, log_level: int = logging.INFO) -> None:
        """Take the value of white, or None to find it.

        Args:
            white: value that is white.
            log_level: level at which notes are logged. Live sources warn, as nobody asks them.

        Raises:
            StreamError: the value is not positive.
        """
        if white is not None and not 0 < white < float("inf"):
            raise StreamError(f"the white level is {white:g}; it must be above 0, e.g. 4095")
        self._white, self._log_level = white, log_level
        self._found: dict[str, float] = {}  # by kind of number
        self.notes: list[str] = []

    def to_rgb(
        self,
        values: np.ndarray,
        source: str,
        others: Callable[[], Iterable[np.ndarray]] | None = None,
    ) -> np.ndarray:
        """Convert an image.

        Args:
            values: (H, W) or (H, W, 3), uint8, or whole numbers or floats of more bits.
            source: name of the image, for the notes.
            others: returns images of the same stream, to look for a larger value in.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        if values.dtype != np.uint8:
            values = to_8_bits(values, self._level(values, source, others))
        return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)

    def _level(
        self,
        values: np.ndarray,
        source: str,
        others: Callable[[], Iterable[np.ndarray]] | None,
    ) -> float:
        if self._white is not None:
            return self._white
        kind, largest, n = values.dtype.kind, _largest(values), 1
        known = self._found.get(kind)
        if known is not None and largest <= known * _OVERSHOOT:
            return known
        if known is None and others is not None:
            same = [_largest(other) for other in others() if other.dtype.kind == kind]
            largest, n = max([largest, *same]), len(same) or 1
        level = self._found[kind] = white_level(largest, kind)
        if level == known:  # a highlight above it
            return level
        if known is None:
            note = (
                f"images hold {_KINDS[kind]} of more than 8 bits: {level:g} is taken for white, as "
                f"the largest value of {n} images is {largest:g}; --white-level sets it"
            )
        else:
            note = (
                f"{one_line(source)} holds the value {largest:g}: from there on {level:g} is taken "
                f"for white, before it was {known:g}; --white-level {level:g} reads all alike"
            )
        self.notes.append(note)
        _log.log(self._log_level, "%s", note)
        return level


def white_level(largest: float, kind: str = "u") -> float:
    """Return the white level that fits the largest value.

    Args:
        largest: largest value of a stream.
        kind: kind of the dtype, "f" for floats.

    Returns:
        1 for floats up to 1 and highlights above it, otherwise the largest value of 8, 10, 12, 14
        or 16 bits.
    """
    if kind == "f" and largest < _HIGHLIGHTS:
        return 1.0
    return float(next((w for bits in _BITS if largest <= _OVERSHOOT * (w := 2**bits - 1)), largest))


def to_8_bits(values: np.ndarray, white: float) -> np.ndarray:
    """Scale values from 0..white to uint8. Values outside are clipped, and NaN becomes 0."""
    if values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            scaled = np.nan_to_num(values, nan=0.0, posinf=white, neginf=0.0) * (255.0 / white)
        return (scaled + 0.5).clip(0, 255).astype(np.uint8)
    # of whole numbers the upper 8 bits: 4095 of 4095 and 4080 of 4095 are both 255
    scaled = values.clip(0, None).astype(np.float64) * (256.0 / (white + 1))
    return scaled.clip(0, 255).astype(np.uint8)


def _largest(values: np.ndarray) -> float:
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return float(values.max(initial=0))
