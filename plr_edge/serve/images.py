"""Images of requests: from base64 to the output of the frozen part, at a bounded cost."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.robot.robot import Robot
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.serve.limits import Rate
from plr_edge.stream.small import SmallImage

_PIECE = 1 << 16  # characters of base64: longer pieces block every other thread
_LEAST_MEGAPIXELS = 0.5  # what the frozen part costs, whatever the size of the image

T = TypeVar("T")


class Images:
    """Decodes images and runs the frozen part on them, on a thread of its own."""

    def __init__(self, robot: Robot, name: str) -> None:
        """Start no thread yet.

        Args:
            robot: has the frozen part.
            name: name of the thread.
        """
        self._encode = robot.requests.encode
        self._thread = ThreadPoolExecutor(1, name)

    async def encoded(self, images: Sequence[str], rate: Rate | None = None) -> list[FrozenOutput]:
        """Return the output of the frozen part for each image.

        Args:
            images: image files in base64.
            rate: megapixels a second that may be spent; it is waited for.

        Raises:
            StreamError: an image is not base64, not an image, damaged or too large.
        """
        stamp_ns, outputs = time.time_ns(), list[FrozenOutput]()
        for image in images:
            opened = await self._on_thread(partial(_opened, image))
            if rate is not None:
                await rate.borrow(max(opened.n_pixels / 1e6, _LEAST_MEGAPIXELS))
            at_ns = stamp_ns + len(outputs)
            outputs += await self._on_thread(partial(self._encoded, opened, at_ns))
        return outputs

    def _encoded(self, image: SmallImage, stamp_ns: int) -> list[FrozenOutput]:
        return self._encode([image.decode()], "api", stamp_ns)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def jpeg(image: np.ndarray, side: int) -> bytes:
    """Return an image as JPEG, no side longer than `side`."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _opened(text: str) -> SmallImage:
    pieces = (text[i : i + _PIECE] for i in range(0, len(text), _PIECE))
    try:
        data = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError):
        raise StreamError("an image is not valid base64") from None
    return SmallImage(data)
