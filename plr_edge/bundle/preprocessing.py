"""Preprocessing: images to the input of the frozen part. NumPy and Pillow only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from plr_edge.errors import ConfigError, StreamError

_MAX_SIZE = 4096
_ORDINARY = 360  # side of a square, from twice which on it is reduced before it is resized
_ENOUGH = 3  # times the input size that reducing leaves, at least
_MAX_PIXELS = 89_478_485  # the limit of Pillow's decoders


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Crop the centre square, resize it bilinearly, and normalise each channel.

    A square of at least twice `_ORDINARY` pixels is reduced first: one row in n is taken, and n
    columns are averaged. A value becomes (pixel - mean) / std.

    Attributes:
        size: height and width of the network's input, in pixels.
        mean: mean of red, green and blue, in pixel units 0..255.
        std: standard deviation of red, green and blue, in the same units.

    Raises:
        ConfigError: a value is not allowed.

    Example:
        >>> prepare = Preprocessing(size=8, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
        >>> x = prepare([np.full((20, 10, 3), 255, np.uint8)])
        >>> x.shape, float(x.max())
        ((1, 3, 8, 8), 1.0)
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 8 <= self.size <= _MAX_SIZE:
            raise ConfigError(f"input size is {self.size}; it must lie in 8..{_MAX_SIZE}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(s > 0 for s in self.std):
            raise ConfigError(
                f"mean is {self.mean} and std is {self.std}; each must be 3 numbers, std above 0"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ConfigError(f"mean is {self.mean} and std is {self.std}; they must be finite")

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Prepare a batch.

        Args:
            images: (H, W, 3) uint8 RGB each; sizes may differ.

        Returns:
            (B, 3, size, size) float32.

        Raises:
            StreamError: an image has another shape or dtype, or too many pixels.
        """
        batch = np.stack([self._resized(image) for image in images])  # (B, size, size, 3) uint8
        factor = np.array([1.0 / s for s in self.std], np.float32)
        offset = np.array([-m / s for m, s in zip(self.mean, self.std, strict=True)], np.float32)
        x = np.empty((len(batch), 3, self.size, self.size), np.float32)
        for channel in range(3):
            np.multiply(batch[..., channel], factor[channel], out=x[:, channel])
            x[:, channel] += offset[channel]
        return x

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict for `from_dict`."""
        return {"size": self.size, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Rebuild from the result of `to_dict`.

        Raises:
            ConfigError: a value is missing or not allowed.
        """
        try:
            mean = tuple(float(x) for x in values["mean"])
            std = tuple(float(x) for x in values["std"])
            return cls(size=int(values["size"]), mean=mean, std=std)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"preprocessing is incomplete ({error!r}); export the bundle again"
            ) from None

    def _resized(self, image: np.ndarray) -> np.ndarray:
        _check(image)
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
        if side == self.size:
            return square
        step = max(side // max(_ENOUGH * self.size, _ORDINARY), 1)
        # contiguous: Pillow's own copy of a part of an image takes three times as long
        reduced = Image.fromarray(np.ascontiguousarray(square[::step]))
        if step > 1:
            reduced = reduced.reduce((step, 1))
        return np.asarray(reduced.resize((self.size, self.size), Image.Resampling.BILINEAR))


def _check(image: object) -> None:
    """Refuse anything but an image, before it takes memory.

    Raises:
        StreamError: it is not (H, W, 3) uint8, is empty, or has too many pixels.
    """
    if not isinstance(image, np.ndarray):
        raise StreamError(
            f"a frame is a {type(image).__name__}; give an array of shape (H, W, 3), uint8 RGB"
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise StreamError(
            f"a frame has shape {image.shape} and dtype {str(image.dtype)[:20]}; give (H, W, 3), "
            "uint8 RGB"
        )
    if not 0 < image.shape[0] * image.shape[1] <= _MAX_PIXELS:
        raise StreamError(
            f"a frame has {image.shape[0]} x {image.shape[1]} pixels; give 1 to {_MAX_PIXELS}"
        )
