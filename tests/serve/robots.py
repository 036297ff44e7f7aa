"""Robots without a trainer, for tests of what serves them."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot

TOKEN = "secret-token"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@contextmanager
def running(bundle_path: Path, state: Path, deadline_ms: float | None = None) -> Iterator[Robot]:
    """A robot whose loop runs, and that never trains."""
    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, state, LearningConfig())
    model.trainer.process.given_up = True  # what serves it is what is tested
    budget = Budget(deadline_ms=deadline_ms)
    robot = Robot(model, Governor(budget, model.schedule, [0.01] * len(bundle.levels)))
    thread = threading.Thread(target=robot.run)
    thread.start()
    try:
        yield robot
    finally:
        robot.stop()
        thread.join(60)
        model.close()


def in_base64(image, kind: str = "PNG", **options) -> str:
    """An image as requests carry it."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return base64.b64encode(stream.getvalue()).decode()
