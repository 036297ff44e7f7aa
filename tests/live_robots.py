"""A robot whose loop runs, for tests of what it does and of what serves it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plr_edge.bundle.reading import open_bundle
from plr_edge.config import LearningConfig
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot


@contextmanager
def running(
    bundle_path: Path,
    state: Path,
    deadline_ms: float | None = None,
    *,
    trains: bool = True,
    **config: Any,
) -> Iterator[Robot]:
    """Run a robot on another thread, and end it."""
    bundle = open_bundle(bundle_path)
    model = OnlineModel(bundle, state, LearningConfig(**config))
    model.trainer.process.given_up = not trains
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
