"""Images of requests: from base64 to the output of the frozen part, at a bounded cost."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
from PIL import Image

from plr_edge.errors import StreamError
from plr_edge.robot.recent_frames import thumbnail
from plr_edge.robot.robot import Robot
from plr_edge.runtime.prediction import FrozenOutput
from plr_edge.serve.limits import Rate
from plr_edge.stream.small import SmallImage

_PIECE = 1 << 16  # characters of base64: longer pieces block every other thread
_LEAST_MEGAPIXELS = 0.5  # what the frozen part costs, whatever the size of the image

_NICE, _SHOWN = 10, 480  # pixels that the page shows


class Images:
    """Decodes images and runs the frozen part on them, on threads of its own.

    Decoding yields the processor to everything else, but for images to teach. The frozen part does
    not, because the frames of the robot wait for it.
    """

    def __init__(self, robot: Robot, name: str, *, yields: bool = True) -> None:
        """Start no thread yet.

        Args:
            robot: has the frozen part.
            name: name of the threads.
            yields: whether decoding yields the processor.
        """
        self._encode = robot.requests.encode
        self._decoder = ThreadPoolExecutor(
            1, f"{name}, decoding", _yield_processor if yields else None
        )
        self._encoder = ThreadPoolExecutor(1, f"{name}, encoding")

    async def encoded(
        self, images: Sequence[str], rate: Rate | None = None, stamp_ns: int | None = None
    ) -> list[FrozenOutput]:
        """Return the output of the frozen part for each image, whose frame holds a small copy.

        Args:
            images: image files in base64.
            rate: megapixels a second that may be spent; it is waited for.
            stamp_ns: time stamp of the first, now by default; the others follow by a nanosecond.

        Raises:
            StreamError: an image is not base64, not an image, damaged or too large.
        """
        stamp_ns = time.time_ns() if stamp_ns is None else stamp_ns
        outputs, run = list[FrozenOutput](), asyncio.get_running_loop().run_in_executor
        for image in images:
            opened = await run(self._decoder, _opened, image)
            if rate is not None:
                await rate.borrow(max(opened.cost_pixels / 1e6, _LEAST_MEGAPIXELS))
            pixels = await run(self._decoder, opened.decode)
            outputs += await run(self._encoder, self._encoded, pixels, stamp_ns + len(outputs))
        return outputs

    def _encoded(self, pixels: np.ndarray, stamp_ns: int) -> list[FrozenOutput]:
        (output,) = self._encode([pixels], "api", stamp_ns)
        small = replace(output.frames[0], image=thumbnail(pixels, _SHOWN))
        return [replace(output, frames=(small,))]


def _yield_processor() -> None:
    """Let every other thread of this process come first."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


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
