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
    """Crop the centre, resize it bilinearly, and normalise each channel.

    What is cropped has the proportions of the input: a square by default. One of at least twice
    `_ORDINARY` pixels is reduced first: one row in n is taken, and n columns are averaged. A value
    becomes (pixel - mean) / std.

    Attributes:
        size: height and width of the network's input in pixels; of another `shape`, its height,
            or its length if it is a sequence.
        mean: mean of red, green and blue, in pixel units 0..255; one number for grey images.
        std: standard deviation of red, green and blue, in the same units.
        shape: shape of the input if it is not (3, size, size): (3, H, W) or (1, H, W), or (C, T)
            for a sequence, which comes as a grey image of C rows and T columns and is not cropped.
        bgr: whether the network takes blue, green and red, in this order. `mean` and `std` are in
            the order of the network's input.

    Raises:
        ConfigError: a value is not allowed.

    Example:
        >>> prepare = Preprocessing(size=8, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
        >>> x = prepare([np.full((20, 10, 3), 255, np.uint8)])
        >>> x.shape, float(x.max())
        ((1, 3, 8, 8), 1.0)
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, ...] = ()
    bgr: bool = False

    def __post_init__(self) -> None:
        if self.shape:
            self._check_shape()
        elif not 8 <= self.size <= _MAX_SIZE:
            raise ConfigError(f"input size is {self.size}; it must lie in 8..{_MAX_SIZE}")
        n = 3 if self._in_colour else 1
        if len(self.mean) != n or len(self.std) != n or not all(s > 0 for s in self.std):
            numbers = "3 numbers" if n == 3 else "one number"
            raise ConfigError(
                f"mean is {self.mean} and std is {self.std}; each must be {numbers}, std above 0"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ConfigError(f"mean is {self.mean} and std is {self.std}; they must be finite")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the network's input without the batch axis: (C, H, W) or (C, T)."""
        return self.shape or (3, self.size, self.size)

    @property
    def _in_colour(self) -> bool:
        return len(self.input_shape) == 3 and self.input_shape[0] == 3

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Prepare a batch.

        Args:
            images: (H, W, 3) uint8 RGB each; sizes may differ.

        Returns:
            (B, *input_shape) float32.

        Raises:
            StreamError: an image has another shape or dtype, or too many pixels.
        """
        batch = np.stack([self._resized(image) for image in images])  # (B, H, W) or (B, H, W, 3)
        factor = np.array([1.0 / s for s in self.std], np.float32)
        offset = np.array([-m / s for m, s in zip(self.mean, self.std, strict=True)], np.float32)
        if batch.ndim == 3:
            return (batch * factor + offset).reshape(len(batch), *self.input_shape)
        x = np.empty((len(batch), *self.input_shape), np.float32)
        for channel in range(3):
            source = 2 - channel if self.bgr else channel
            np.multiply(batch[..., source], factor[channel], out=x[:, channel])
            x[:, channel] += offset[channel]
        return x

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dict for `from_dict`."""
        shape = {"shape": list(self.shape)} if self.shape else {}
        order = {"bgr": True} if self.bgr else {}
        return {"size": self.size, "mean": list(self.mean), "std": list(self.std), **shape, **order}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Rebuild from the result of `to_dict`.

        Raises:
            ConfigError: a value is missing or not allowed.
        """
        try:
            mean = tuple(float(x) for x in values["mean"])
            std = tuple(float(x) for x in values["std"])
            shape = tuple(int(n) for n in values.get("shape", ()))
            bgr = bool(values.get("bgr", False))
            return cls(size=int(values["size"]), mean=mean, std=std, shape=shape, bgr=bgr)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"preprocessing is incomplete ({error!r}); export the bundle again"
            ) from None

    def _check_shape(self) -> None:
        """Raise a ConfigError for a shape that is not allowed."""
        image = len(self.shape) == 3 and self.shape[0] in (1, 3)
        fits = all(1 <= n <= _MAX_SIZE for n in self.shape) and (image or len(self.shape) == 2)
        if not fits or self.size != self.shape[1]:
            raise ConfigError(
                f"input shape is {self.shape}; it must be 3,H,W or 1,H,W of an image, or C,T of a "
                f"sequence, with sides of 1..{_MAX_SIZE}"
            )

    def _resized(self, image: np.ndarray) -> np.ndarray:
        _check(image)
        rows, columns = self.input_shape[-2:]
        if len(self.input_shape) == 3:
            image = _cropped(image, rows, columns)
        if not self._in_colour:
            image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("L"))
        if image.shape[:2] == (rows, columns):
            return image
        step = 1
        if len(self.input_shape) == 3:
            step = max(min(image.shape[:2]) // max(_ENOUGH * min(rows, columns), _ORDINARY), 1)
        # contiguous: Pillow's own copy of a part of an image takes three times as long
        reduced = Image.fromarray(np.ascontiguousarray(image[::step]))
        if step > 1:
            reduced = reduced.reduce((step, 1))
        return np.asarray(reduced.resize((columns, rows), Image.Resampling.BILINEAR))


def _cropped(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the largest centre of an image with the proportions rows : columns."""
    height, width = image.shape[:2]
    high = max(min(height, round(width * rows / columns)), 1)
    wide = max(min(width, round(height * columns / rows)), 1)
    top, left = (height - high) // 2, (width - wide) // 2
    return image[top : top + high, left : left + wide]


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
