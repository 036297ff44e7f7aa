"""Robots without a trainer, for tests of what serves them."""

from __future__ import annotations

import base64
import io
from functools import partial

import live_robots
from PIL import Image

TOKEN = "secret-token"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


running = partial(live_robots.running, trains=False)  # what serves it is what is tested


def in_base64(image, kind: str = "PNG", **options) -> str:
    """An image as requests carry it."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return base64.b64encode(stream.getvalue()).decode()
